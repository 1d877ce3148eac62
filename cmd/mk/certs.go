package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"mk8s.io/mk/core/operation"
	"mk8s.io/mk/core/settings"
)

func (s *session) certsVerbs() *cli.Command {
	where := func() []cli.Flag {
		return []cli.Flag{&cli.BoolFlag{Name: "all-nodes", Usage: "on every node"}, &cli.StringFlag{Name: "node", Usage: "on another `NODE`"}}
	}
	return &cli.Command{
		Name: "certs", Aliases: []string{"cert"}, Usage: "list, show, check and renew this node's certificates",
		Description: "mk certs\nsudo mk certs renew server", UsageText: exitsFar,
		Action: s.listCerts,
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "list the certificates and when they end", Description: "mk certs list\nsudo mk certs list --all-nodes", UsageText: exitsFar, Flags: where(), Action: s.listCerts},
			{Name: "show", Usage: "show one certificate, or where the authority's key is", ArgsUsage: "CERTIFICATE|ca", Description: "mk certs show server\nmk certs show ca", UsageText: exitsRead, Action: s.showCert},
			{Name: "check", Usage: "say what is wrong with them, or ends too soon", Description: "mk certs check --warn 30d --crit 7d", UsageText: exitsRead + ", 4 something is wrong, 5 not asked everywhere",
				Flags: append(where(),
					&cli.StringFlag{Name: "warn", Usage: "warn of one that ends within this `TIME` (default: the setting cert-warn, where it should have been renewed)"},
					&cli.StringFlag{Name: "crit", Usage: "one that ends within this `TIME` is critical"},
				), Action: s.checkCerts},
			{Name: "tree", Usage: "show which authority signed which certificate", Description: "mk certs tree", UsageText: exitsRead, Action: s.certTree},
			{Name: "renew", Usage: "renew some or all", ArgsUsage: "[CERTIFICATE...]", Description: "sudo mk certs renew\nsudo mk certs renew --all-nodes", UsageText: exitsFar, Flags: where(), Action: s.renewCerts},
			{Name: "undo", Usage: "go back to those before the last renewal", Description: "sudo mk certs undo", UsageText: exitsUsual, Action: s.undoRenewal},
		},
	}
}

func (s *session) listCerts(c *cli.Context) error {
	where, err := whereOf(c)
	if err != nil {
		return err
	}
	return s.open("certs", func(n *operation.Node) error {
		if where.Far() {
			return s.certsEverywhere(c, n, where)
		}
		list, err := n.Certificates()
		if err != nil {
			return err
		}
		return s.show(list, func(w io.Writer) error {
			t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
			fmt.Fprintln(t, "CERTIFICATE\tENDS\tIN\tRENEWED\tSTATE")
			for _, c := range list {
				fmt.Fprintf(t, "%s\t%s\t%d days\t%s\t%s\n", c.Profile, c.NotAfter.UTC().Format(time.DateTime),
					int(time.Until(c.NotAfter).Hours()/24), c.RenewAt.UTC().Format(time.DateOnly), c.State)
			}
			return t.Flush()
		})
	})
}

// certsEverywhere lists the certificates of other nodes.
func (s *session) certsEverywhere(c *cli.Context, n *operation.Node, w operation.Where) error {
	if err := s.root("certs list"); err != nil { // other nodes are asked
		return err
	}
	return lookFar(s, c, n, w, operation.LookCertificates, nil, "CERTIFICATE\tENDS\tSTATE", func(all []operation.Certificate) []string {
		rows := make([]string, 0, len(all))
		for _, c := range all {
			rows = append(rows, fmt.Sprintf("%s\t%s\t%s", c.Profile, c.NotAfter.UTC().Format(time.DateTime), c.State))
		}
		return rows
	})
}

// checkEverywhere says which certificates of which nodes want a look.
func (s *session) checkEverywhere(c *cli.Context, n *operation.Node, w operation.Where, l limits) error {
	if err := s.root("certs check"); err != nil { // other nodes are asked
		return err
	}
	bad := 0
	err := lookFar(s, c, n, w, operation.LookCertificates, nil, "CERTIFICATE\tSEVERITY\tWHY", func(all []operation.Certificate) []string {
		var rows []string
		for _, cert := range all {
			if k := l.check(cert, n.Now()); k.Severity != "ok" {
				bad++
				rows = append(rows, fmt.Sprintf("%s\t%s\t%s", k.Profile, k.Severity, k.Why))
			}
		}
		return rows
	})
	if err == nil && bad > 0 {
		return &problem{Reason: "CERTIFICATES", exit: exitNotReady, state: unchanged, Next: []string{"sudo mk certs renew --all-nodes"},
			Message: fmt.Sprintf("%d certificates need a look", bad)}
	}
	return err
}

func (s *session) showCert(c *cli.Context) error {
	if c.Args().Len() != 1 {
		return usage("mk certs show: which certificate?")
	}
	return s.open("certs", func(n *operation.Node) error {
		name := c.Args().First()
		if name == "ca" {
			return s.showAuthorities(c, n)
		}
		if err := n.CheckProfiles([]string{name}); err != nil {
			return err
		}
		info, err := n.Certificate(name)
		if err != nil {
			return err
		}
		return s.show(info, func(w io.Writer) error {
			_, err := fmt.Fprintln(w, info.Text)
			return err
		})
	})
}

// showAuthorities asks the plugins where their keys are; that takes root.
func (s *session) showAuthorities(c *cli.Context, n *operation.Node) error {
	if os.Geteuid() != 0 {
		return s.root("certs show ca")
	}
	list, err := n.Authorities(c.Context)
	if err != nil {
		return err
	}
	return s.show(list, func(w io.Writer) error {
		t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
		for _, a := range list {
			fmt.Fprintf(t, "%s\t%s\tkey: %s\n", a.Name, a.Plugin, a.KeyLocation)
		}
		return t.Flush()
	})
}

// checkedCert is a certificate and what is wrong with it.
type checkedCert struct {
	operation.Certificate
	Severity string `json:"severity"` // ok, warning or critical
	Why      string `json:"why,omitempty"`
}

// limits are how soon a certificate may end: before warn only where it should
// have been renewed by then, unless somebody named the time.
type limits struct {
	warn, crit time.Duration
	named      bool
}

func (l limits) check(c operation.Certificate, now time.Time) checkedCert {
	out := checkedCert{Certificate: c, Severity: "ok"}
	var why []string
	for _, r := range c.Reasons {
		why = append(why, r.Text)
		if out.Severity = "critical"; !r.Urgent() {
			out.Severity = "warning"
		}
	}
	left := c.NotAfter.Sub(now)
	switch {
	case out.Severity == "critical" || c.NotAfter.IsZero():
	case left <= l.crit:
		out.Severity = "critical"
		why = append(why, "ends in "+left.Round(time.Minute).String())
	case left <= l.warn && (l.named || !now.Before(c.RenewAt)):
		out.Severity = "warning"
		why = append(why, "ends in "+left.Round(time.Minute).String())
	}
	out.Why = strings.Join(why, "; ")
	return out
}

// certLimits reads --warn and --crit; the setting cert-warn stands behind.
func certLimits(c *cli.Context, n *operation.Node) (limits, error) {
	warn, err := n.Settings.Duration("cert-warn")
	if err != nil {
		return limits{}, err
	}
	l := limits{warn: warn, named: c.IsSet("warn")}
	for name, to := range map[string]*time.Duration{"warn": &l.warn, "crit": &l.crit} {
		if !c.IsSet(name) {
			continue
		}
		if *to, err = settings.ParseDuration(c.String(name)); err != nil {
			return limits{}, usage("--%s %q %s", name, c.String(name), err.Error())
		}
	}
	if l.named && l.warn < l.crit {
		return limits{}, usage("--warn %s is sooner than --crit %s", l.warn, l.crit)
	}
	return l, nil
}

func (s *session) checkCerts(c *cli.Context) error {
	where, err := whereOf(c)
	if err != nil {
		return err
	}
	return s.open("certs", func(n *operation.Node) error {
		l, err := certLimits(c, n)
		if err != nil {
			return err
		}
		if where.Far() {
			return s.checkEverywhere(c, n, where, l)
		}
		list, err := n.Certificates()
		if err != nil {
			return err
		}
		out, bad := []checkedCert{}, map[string]int{}
		for _, cert := range list {
			k := l.check(cert, n.Now())
			bad[k.Severity]++
			out = append(out, k)
		}
		err = s.show(out, func(w io.Writer) error {
			for _, k := range out {
				if k.Severity != "ok" {
					fmt.Fprintf(w, "%s: %s: %s\n", k.Severity, k.Profile, k.Why)
				}
			}
			if bad["ok"] == len(out) {
				fmt.Fprintln(w, "all certificates are as they should be")
			}
			return nil
		})
		if err != nil || bad["ok"] == len(out) {
			return err
		}
		return &problem{Reason: "CERTIFICATES", exit: exitNotReady, state: unchanged, Next: []string{"sudo mk certs renew"},
			Message: fmt.Sprintf("of %d certificates, %d are critical and %d need a look", len(out), bad["critical"], bad["warning"])}
	})
}

// certTree shows who signed what.
func (s *session) certTree(c *cli.Context) error {
	return s.open("certs", func(n *operation.Node) error {
		tree, err := n.CertificateTree()
		if err != nil {
			return err
		}
		return s.show(tree, func(w io.Writer) error {
			for _, b := range tree {
				if b.Info == nil {
					fmt.Fprintln(w, "signed by nobody that this node trusts")
				} else {
					fmt.Fprintf(w, "%s: %s until %s\n", b.Authority, b.Info.Subject, b.Info.NotAfter.UTC().Format(time.DateOnly))
				}
				for _, cert := range b.Signed {
					fmt.Fprintf(w, "  %-24s until %s, %s\n", cert.Profile, cert.NotAfter.UTC().Format(time.DateOnly), cert.State)
				}
			}
			return nil
		})
	})
}
