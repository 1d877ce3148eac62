package observe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"

	"mk8s.io/mk/core/operation"
)

// datastoreURL is where the datastore serves this node.
const datastoreURL = "https://127.0.0.1:12379/health"

// datastore asks etcd whether it can commit.
func datastore(ctx context.Context, n *operation.Node) (fill, error) {
	pair, err := tls.LoadX509KeyPair(n.Root.Certs("apiserver-etcd-client.crt"), n.Root.Certs("apiserver-etcd-client.key"))
	if err != nil {
		return nil, err
	}
	ca, err := n.Root.ReadFile("certs/datastore-ca.crt")
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, RootCAs: pool,
	}}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, datastoreURL, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it cannot commit: status %d", resp.StatusCode)
	}
	return func(s *Status) {
		// One node, one voter; joins add more.
		s.Voters = []string{n.Record.Address + ":2380"}
		s.HA = len(s.Voters) > 2
	}, nil
}
