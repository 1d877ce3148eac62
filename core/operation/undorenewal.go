package operation

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/sdk/plugin"
)

// UndoRenewal goes back to the certificates that were there before the last
// renewal, as long as nothing was changed since, and answers the renewal's
// number. Certificates that have ended are not gone back to.
func (n *Node) UndoRenewal(ctx context.Context) (int, error) {
	number, err := n.LastRenewal()
	if err != nil {
		return 0, err
	}
	return number, n.UndoOperation(ctx, number)
}

// LastRenewal is the renewal that UndoRenewal would take back.
func (n *Node) LastRenewal() (int, error) {
	all, err := Records(n.Root)
	if err != nil {
		return 0, err
	}
	for _, r := range slices.Backward(all) {
		if r.Verb == "refresh-certs" && r.State == Done && r.Changes > 0 {
			return r.Number, n.stillGood()
		}
	}
	return 0, plugin.Errorf(plugin.NotPossible, "there is no renewal to undo")
}

// stillGood refuses to go back to a certificate that has ended.
func (n *Node) stillGood() error {
	current, err := n.Root.CurrentCerts()
	if err != nil {
		return err
	}
	entries, err := n.Root.ReadDir("var/certs")
	if err != nil {
		return err
	}
	before := 0
	for _, e := range entries {
		if g, err := strconv.Atoi(e.Name()); err == nil && g < current {
			before = max(before, g)
		}
	}
	for _, name := range n.Profiles() {
		p, err := pki.Find(name)
		if err != nil {
			return err
		}
		file, ok := strings.CutPrefix(p.CertFile(), "certs/")
		if !ok {
			continue // the datastore's own, which lives ten years
		}
		data, err := n.Root.ReadFile(fmt.Sprintf("var/certs/%d/%s", before, file))
		if err != nil {
			return fmt.Errorf("the certificates before the last renewal: %w", err)
		}
		cert, err := pki.ParseCertificate(data)
		if err != nil {
			return err
		}
		if !n.Now().Before(cert.NotAfter) {
			return &plugin.Error{Reason: plugin.NotPossible, Message: fmt.Sprintf("the %s certificate before the last renewal has ended", name), Next: "mk certs renew " + name}
		}
	}
	return nil
}
