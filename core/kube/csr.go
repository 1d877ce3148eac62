package kube

import (
	"context"
	"fmt"
	"slices"
	"time"

	certv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The signers that mk serves.
const (
	SignerAPIClient     = certv1.KubeAPIServerClientSignerName
	SignerKubeletClient = certv1.KubeAPIServerClientKubeletSignerName
	SignerKubeletServer = certv1.KubeletServingSignerName
)

// CSR is a certificate signing request of the cluster.
type CSR struct {
	Name, UID string
	Signer    string
	// Username, Groups and Extra are who asked, as the API server authenticated it.
	Username string
	Groups   []string
	Extra    map[string][]string
	Usages   []string
	// Request is the PKCS #10 request in PEM, made by whoever asked.
	Request []byte
	// Life is what was asked for; 0 means the signer's choice.
	Life                             time.Duration
	Approved, Denied, Failed, Issued bool
	Created                          time.Time
}

// Open is whether something is left to do for the signer or an approver.
func (c CSR) Open() bool { return !c.Denied && !c.Failed && !c.Issued }

func csrFrom(o *certv1.CertificateSigningRequest) CSR {
	csr := CSR{
		Name: o.Name, UID: string(o.UID), Signer: o.Spec.SignerName, Username: o.Spec.Username, Groups: o.Spec.Groups,
		Extra: map[string][]string{}, Request: o.Spec.Request, Issued: len(o.Status.Certificate) > 0, Created: o.CreationTimestamp.Time,
	}
	for k, v := range o.Spec.Extra {
		csr.Extra[k] = v
	}
	for _, u := range o.Spec.Usages {
		csr.Usages = append(csr.Usages, string(u))
	}
	if o.Spec.ExpirationSeconds != nil {
		csr.Life = time.Duration(*o.Spec.ExpirationSeconds) * time.Second
	}
	for _, c := range o.Status.Conditions {
		switch c.Type {
		case certv1.CertificateApproved:
			csr.Approved = true
		case certv1.CertificateDenied:
			csr.Denied = true
		case certv1.CertificateFailed:
			csr.Failed = true
		}
	}
	return csr
}

// WatchCSRs calls see for every open request to one of mk's signers, and again each time one changes, until the context
// ends, which is the error. All calls come from one goroutine; after the API server was away, open requests come again.
// trouble, which may be nil, hears why it cannot be asked.
func (c *Client) WatchCSRs(ctx context.Context, see func(CSR), trouble func(error)) error {
	src := c.typed.requests().source(metav1.ListOptions{})
	err := follow(ctx, src, observer{trouble: trouble, see: func(set watched, changed []string) (bool, error) {
		for _, key := range slices.Sorted(slices.Values(changed)) {
			obj, ok := set[key].(*certv1.CertificateSigningRequest)
			if !ok || !isServed(obj.Spec.SignerName) {
				continue
			}
			if csr := csrFrom(obj); csr.Open() {
				see(csr)
			}
		}
		return false, nil
	}})
	return fmt.Errorf("watch certificate signing requests: %w", err)
}

func isServed(signer string) bool {
	return slices.Contains([]string{SignerAPIClient, SignerKubeletClient, SignerKubeletServer}, signer)
}

// ApproveCSR approves the very request that was decided on: one of the same name made since is refused. An approved
// request is left as it is.
func (c *Client) ApproveCSR(ctx context.Context, csr CSR, message string) error {
	return c.changeCSR(ctx, csr, "approve", "approval", func(o *certv1.CertificateSigningRequest) bool {
		return addCondition(o, certv1.CertificateApproved, "AutoApproved", message)
	})
}

// FailCSR says that an approved request will not be signed, and why.
func (c *Client) FailCSR(ctx context.Context, csr CSR, message string) error {
	return c.changeCSR(ctx, csr, "fail", "status", func(o *certv1.CertificateSigningRequest) bool {
		return len(o.Status.Certificate) == 0 && addCondition(o, certv1.CertificateFailed, "SignerRefused", message)
	})
}

// SetCertificate gives the signed certificate, leaf first, in PEM. A request that has one is left as it is.
func (c *Client) SetCertificate(ctx context.Context, csr CSR, chain []byte) error {
	return c.changeCSR(ctx, csr, "give a certificate to", "status", func(o *certv1.CertificateSigningRequest) bool {
		if len(o.Status.Certificate) > 0 {
			return false
		}
		o.Status.Certificate = chain
		return true
	})
}

func addCondition(o *certv1.CertificateSigningRequest, kind certv1.RequestConditionType, reason, message string) bool {
	if slices.ContainsFunc(o.Status.Conditions, func(c certv1.CertificateSigningRequestCondition) bool { return c.Type == kind }) {
		return false
	}
	o.Status.Conditions = append(o.Status.Conditions, certv1.CertificateSigningRequestCondition{
		Type: kind, Status: corev1.ConditionTrue, Reason: reason, Message: message, LastUpdateTime: metav1.Now(),
	})
	return true
}

// changeCSR changes a part, the approval or the status; it reads and tries again where someone else was faster.
func (c *Client) changeCSR(ctx context.Context, csr CSR, what, part string, change func(*certv1.CertificateSigningRequest) bool) error {
	requests := c.typed.requests()
	what = what + " certificate signing request " + csr.Name
	wait := newBackoff()
	for {
		o, err := requests.get(ctx, csr.Name)
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if string(o.UID) != csr.UID {
			return fmt.Errorf("%s: another request has its name now", what)
		}
		if !change(o) {
			return nil
		}
		_, err = requests.update(ctx, csr.Name, o, part)
		if err == nil {
			return nil
		}
		if !apierrors.IsConflict(err) {
			return fmt.Errorf("%s: %w", what, err)
		}
		if !wait.pause(ctx) {
			return ended(ctx, what, err)
		}
	}
}
