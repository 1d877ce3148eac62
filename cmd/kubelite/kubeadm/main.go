// Command kubeadm is upstream's kubeadm, built for the tests and benchmarks that compare with it. It is not shipped.
package main

import (
	"k8s.io/kubernetes/cmd/kubeadm/app"
	utilerrors "k8s.io/kubernetes/cmd/kubeadm/app/util/errors"
)

func main() {
	utilerrors.HandleError(app.Run())
}
