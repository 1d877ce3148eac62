package kube

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	certv1 "k8s.io/api/certificates/v1"

	"mk8s.io/mk/core/pki"
	"mk8s.io/mk/core/revoked"
)

const (
	nodesGroup         = "system:nodes"
	bootstrappersGroup = "system:bootstrappers"
)

// CSRAction is what is to be done with a certificate signing request.
type CSRAction string

// The actions. CSRSign means that it is approved and may be signed; CSRWait that a person must approve it first.
const (
	CSRApprove CSRAction = "approve"
	CSRSign    CSRAction = "sign"
	CSRWait    CSRAction = "wait"
	CSRRefuse  CSRAction = "refuse"
	CSRIgnore  CSRAction = "ignore"
)

// CSRDecision is the action and why, in words that may go into the request's condition.
type CSRDecision struct {
	Action CSRAction
	Reason string
}

// NodeNames are the names that a node's serving certificate may have. They come from mk's record of the node, never from
// what the node reports of itself.
type NodeNames struct {
	Addresses []netip.Addr
	Hostnames []string
}

// NodeLookup gives a node's names; false for a node that is not of this cluster.
type NodeLookup func(name string) (NodeNames, bool)

// DecideCSR says what is to be done with a request. It is pure: the same request and nodes give the same answer. A
// request that a person approved and that breaks the rules is refused all the same.
//
//   - kubelet-serving: only for the node that asks, with names that are the node's.
//   - kube-apiserver-client-kubelet: only for the node that asks, or for a node of this cluster when a bootstrapper asks.
//   - kube-apiserver-client: signed once a person approved it, never for the identity of a node or of mk, and never for
//     the group system:masters.
func DecideCSR(csr CSR, nodes NodeLookup) CSRDecision {
	if !csr.Open() {
		return CSRDecision{CSRIgnore, "it is finished"}
	}
	if !isServed(csr.Signer) {
		return CSRDecision{CSRIgnore, "its signer is not mk's"}
	}
	req, err := pki.ParseCSR(csr.Request)
	if err == nil {
		err = pki.CheckKey(req.PublicKey)
	}
	if err != nil {
		return CSRDecision{CSRRefuse, err.Error()}
	}
	var auto bool
	switch csr.Signer {
	case SignerKubeletServer:
		auto, err = true, checkKubeletServer(csr, req, nodes)
	case SignerKubeletClient:
		auto, err = true, checkKubeletClient(csr, req, nodes)
	default:
		err = checkAPIClient(csr, req)
	}
	switch {
	case err != nil:
		return CSRDecision{CSRRefuse, err.Error()}
	case csr.Approved:
		return CSRDecision{CSRSign, "it is approved and within the rules"}
	case auto:
		return CSRDecision{CSRApprove, "the node " + strings.TrimPrefix(req.Subject.CommonName, revoked.KubeletUser) + " asks for its own certificate"}
	}
	return CSRDecision{CSRWait, "a person must approve it"}
}

// checkNodeSubject is the subject of every certificate of a node. It returns the node's name.
func checkNodeSubject(req *x509.CertificateRequest) (string, error) {
	name, ok := strings.CutPrefix(req.Subject.CommonName, revoked.KubeletUser)
	if !ok || name == "" {
		return "", fmt.Errorf("the subject %q is not a node's", req.Subject.CommonName)
	}
	if len(req.Subject.Organization) != 1 || req.Subject.Organization[0] != nodesGroup {
		return "", fmt.Errorf("the subject's groups %q are not exactly %s", req.Subject.Organization, nodesGroup)
	}
	return name, nil
}

func isNode(csr CSR, name string) bool {
	return csr.Username == revoked.KubeletUser+name && slices.Contains(csr.Groups, nodesGroup)
}

func checkKubeletServer(csr CSR, req *x509.CertificateRequest, nodes NodeLookup) error {
	name, err := checkNodeSubject(req)
	if err != nil {
		return err
	}
	if !isNode(csr, name) {
		return fmt.Errorf("%s asks for a certificate of node %s", csr.Username, name)
	}
	if err := checkUsages(csr, certv1.UsageServerAuth); err != nil {
		return err
	}
	names, ok := nodes(name)
	if !ok {
		return fmt.Errorf("node %s is not of this cluster", name)
	}
	if len(req.EmailAddresses)+len(req.URIs) > 0 {
		return errors.New("the request names e-mail addresses or URIs")
	}
	if len(req.DNSNames)+len(req.IPAddresses) == 0 {
		return errors.New("the request names no host and no address")
	}
	for _, host := range req.DNSNames {
		if !slices.ContainsFunc(names.Hostnames, func(have string) bool { return strings.EqualFold(have, host) }) {
			return fmt.Errorf("%q is not a name of node %s", host, name)
		}
	}
	for _, ip := range req.IPAddresses {
		if !hasAddress(names.Addresses, ip) {
			return fmt.Errorf("%s is not an address of node %s", ip, name)
		}
	}
	return nil
}

func hasAddress(have []netip.Addr, ip net.IP) bool {
	addr, ok := netip.AddrFromSlice(ip)
	return ok && slices.ContainsFunc(have, func(a netip.Addr) bool { return a.Unmap() == addr.Unmap() })
}

func checkKubeletClient(csr CSR, req *x509.CertificateRequest, nodes NodeLookup) error {
	name, err := checkNodeSubject(req)
	if err != nil {
		return err
	}
	if !isNode(csr, name) && !slices.Contains(csr.Groups, bootstrappersGroup) {
		return fmt.Errorf("%s asks for a certificate of node %s", csr.Username, name)
	}
	if _, ok := nodes(name); !ok {
		return fmt.Errorf("node %s is not of this cluster", name)
	}
	if len(req.DNSNames)+len(req.IPAddresses)+len(req.EmailAddresses)+len(req.URIs) > 0 {
		return errors.New("a client's request may not name hosts or addresses")
	}
	return checkUsages(csr, certv1.UsageClientAuth)
}

func checkAPIClient(csr CSR, req *x509.CertificateRequest) error {
	user := req.Subject.CommonName
	switch {
	case user == "":
		return errors.New("the subject names no user")
	case strings.HasPrefix(user, revoked.KubeletUser), strings.HasPrefix(user, "mk:"):
		return fmt.Errorf("the user %q is a node's or mk's own", user)
	}
	for _, group := range req.Subject.Organization {
		if group == "system:masters" || group == nodesGroup || strings.HasPrefix(group, "mk:") {
			return fmt.Errorf("the group %q is not given out", group)
		}
	}
	return checkUsages(csr, certv1.UsageClientAuth)
}

// checkUsages allows the one usage that the signer is for, and what its handshake needs.
func checkUsages(csr CSR, need certv1.KeyUsage) error {
	if !slices.Contains(csr.Usages, string(need)) {
		return fmt.Errorf("the usages %q lack %q", csr.Usages, need)
	}
	allowed := []string{string(need), string(certv1.UsageDigitalSignature), string(certv1.UsageKeyEncipherment)}
	for _, usage := range csr.Usages {
		if !slices.Contains(allowed, usage) {
			return fmt.Errorf("the usage %q is not given out by %s", usage, csr.Signer)
		}
	}
	return nil
}
