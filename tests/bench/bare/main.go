// Command bare asks what mk version and mk status ask, with Kubernetes' own
// client, and does nothing else: what the two are measured beside.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run takes the verb, the node's root folder and its folder for sockets.
func run(ctx context.Context, args []string) error {
	if args[0] == "version" { // asks nobody
		fmt.Println("mk")
		return nil
	}
	root, sockets := args[1], args[2]
	group, ctx := errgroup.WithContext(ctx)
	for _, ask := range []func(context.Context) error{
		func(ctx context.Context) error { return apiServer(ctx, root+"/credentials/client.config") },
		func(ctx context.Context) error { return datastore(ctx, root+"/certs/") },
		func(ctx context.Context) error { return supervisor(ctx, sockets+"/supervisor.sock") },
		func(ctx context.Context) error { return containerd(ctx, sockets+"/containerd.sock") },
	} {
		group.Go(func() error { return ask(ctx) })
	}
	return group.Wait()
}

// apiServer asks for readiness, the nodes and the objects of the addon dns.
func apiServer(ctx context.Context, kubeconfig string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	config.QPS = -1
	config.ContentType = "application/vnd.kubernetes.protobuf"
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return err
	}
	c, err := kubernetes.NewForConfigAndClient(config, client)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return c.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error() })
	group.Go(func() error {
		list, err := c.CoreV1().Nodes().List(ctx, metav1.ListOptions{ResourceVersion: "0"})
		if err == nil {
			fmt.Println(len(list.Items), "nodes")
		}
		return err
	})
	group.Go(func() error {
		_, err := c.AppsV1().Deployments("kube-system").Get(ctx, "coredns", metav1.GetOptions{ResourceVersion: "0"})
		return missing(err)
	})
	return group.Wait()
}

// missing takes an object that does not exist for an answer.
func missing(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func datastore(ctx context.Context, certs string) error {
	pair, err := tls.LoadX509KeyPair(certs+"apiserver-etcd-client.crt", certs+"apiserver-etcd-client.key")
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(certs + "datastore-ca.crt")
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	return get(ctx, "https://127.0.0.1:12379/health", &http.Transport{TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: pool}})
}

func supervisor(ctx context.Context, socket string) error {
	return get(ctx, "http://supervisor/v1/status", &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}})
}

func get(ctx context.Context, url string, transport *http.Transport) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, res.Body)
	fmt.Println(url, res.Status, n)
	return errors.Join(err, res.Body.Close())
}

// containerd sends the preface of HTTP/2 and takes the answer.
func containerd(ctx context.Context, socket string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return err
	}
	if _, err := conn.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")); err != nil {
		return errors.Join(err, conn.Close())
	}
	_, err = conn.Read(make([]byte, 9))
	return errors.Join(err, conn.Close())
}
