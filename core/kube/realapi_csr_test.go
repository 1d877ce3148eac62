//go:build realapi

package kube

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"os"
	"strings"
	"testing"

	certv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestRealCSR(t *testing.T) {
	ctx := realContext(t)
	requests := realSet().CertificatesV1().CertificateSigningRequests()
	made, err := requests.Create(ctx, &certv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: "jane"},
		Spec: certv1.CertificateSigningRequestSpec{
			SignerName: SignerAPIClient, Usages: []certv1.KeyUsage{certv1.UsageClientAuth},
			Request: makeCSR(t, makeKey(t), x509.CertificateRequest{Subject: pkix.Name{CommonName: "jane"}}),
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	chain, err := os.ReadFile(os.Getenv(certificateEnv))
	if err != nil {
		t.Fatal(err)
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	var issued CSR
	err = realClient.WatchCSRs(watching, func(csr CSR) {
		if csr.Name != "jane" {
			return
		}
		switch d := DecideCSR(csr, nil); d.Action {
		case CSRWait:
			err := realClient.ApproveCSR(ctx, csr, "a person said so")
			if err != nil {
				t.Error(err)
			}
		case CSRSign:
			if err := realClient.SetCertificate(ctx, csr, chain); err != nil {
				t.Error(err)
			}
			issued = csr
			stop()
		default:
			t.Errorf("decision %+v", d)
			stop()
		}
	}, nil)
	if ctx.Err() != nil || issued.UID != string(made.UID) {
		t.Fatalf("issued %+v, %v", issued, err)
	}
	stored, err := requests.Get(ctx, "jane", metav1.GetOptions{})
	if err != nil || string(stored.Status.Certificate) != string(chain) {
		t.Fatalf("certificate %q, %v", stored.Status.Certificate, err)
	}
	issued.UID = "another"
	if err := realClient.ApproveCSR(ctx, issued, "x"); err == nil || !strings.Contains(err.Error(), "another request") {
		t.Fatalf("a request of another identity was approved: %v", err)
	}
}
