package main

import (
	"context"
	"net"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// agent is the user agent by which the API server knows a kubelet.
const agent = "standin-kubelet"

// kubelet registers its node and says that it is Ready, as a kubelet does when
// it starts, and not again.
func kubelet(ctx context.Context, argsFile string, controlPlane bool) error {
	o, err := optionsIn(argsFile)
	if err != nil {
		return err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(o["node-ip"], "10250")) // a joiner looks whether it is open
	if err != nil {
		return err
	}
	go hangUp(ctx, l)
	config, err := clientcmd.BuildConfigFromFlags("", o["kubeconfig"])
	if err != nil {
		return err
	}
	config.UserAgent, config.Timeout = agent, 5*time.Second
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	labels := map[string]string{"kubernetes.io/hostname": o["hostname-override"]}
	for l := range strings.SplitSeq(o["node-labels"], ",") {
		k, v, _ := strings.Cut(l, "=")
		labels[k] = v
	}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: o["hostname-override"], Labels: labels}, Status: corev1.NodeStatus{
		Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: o["node-ip"]}},
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "StandIn", LastHeartbeatTime: metav1.Now()}},
	}}
	again(ctx, func() error {
		_, err := client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
		if !apierrors.IsAlreadyExists(err) {
			return err
		}
		have, err := client.CoreV1().Nodes().Get(ctx, node.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		have.Status.Conditions = node.Status.Conditions
		_, err = client.CoreV1().Nodes().Update(ctx, have, metav1.UpdateOptions{})
		return err
	})
	if controlPlane {
		again(ctx, func() error { return endpoint(ctx, client, o["node-ip"], config.Host) })
	}
	return nil
}

// again tries until it works.
func again(ctx context.Context, do func() error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for do() != nil {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// endpoint makes this API server one of the Service kubernetes. One that has
// gone stays named: whoever uses the list finds out.
func endpoint(ctx context.Context, client kubernetes.Interface, address, host string) error {
	_, port, err := net.SplitHostPort(strings.TrimPrefix(host, "https://"))
	if err != nil {
		return err
	}
	number, err := strconv.ParseInt(port, 10, 32)
	if err != nil {
		return err
	}
	name, p, tcp := "https", int32(number), corev1.ProtocolTCP
	slices := client.DiscoveryV1().EndpointSlices("default")
	_, err = slices.Create(ctx, &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Name: "kubernetes-" + address, Labels: map[string]string{discoveryv1.LabelServiceName: "kubernetes"}}, AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{address}}},
		Ports:     []discoveryv1.EndpointPort{{Name: &name, Port: &p, Protocol: &tcp}},
	}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}
