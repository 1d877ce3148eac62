// Package microk8s is what MicroK8s' cluster agents say to each other: paths,
// bodies, status codes, and the kubelet's arguments as its clients expect them.
//
// Guaranteed: a body is read as MicroK8s' agent reads it, without regard to
// its type, unknown keys left out, a value of the wrong type refused; what
// Configure may change is only what its list names. It keeps nothing and asks
// nobody: who may ask is the caller's business.
package microk8s

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The routes.
const (
	JoinV1Path    = "/cluster/api/v1.0/join"
	SignPath      = "/cluster/api/v1.0/sign-cert"
	ConfigurePath = "/cluster/api/v1.0/configure"
	JoinPath      = "/cluster/api/v2.0/join"
	ImportPath    = "/cluster/api/v2.0/image/import"
)

// CallbackHeader carries the token of whoever imports images.
const CallbackHeader = "X-Microk8s-Callback-Token"

// MicroK8s' status codes are its own: they say which check failed.
const (
	StatusFailed    = http.StatusInternalServerError // a token that is not good, and what could not be done
	StatusNotHere   = http.StatusNotImplemented      // this cluster does not do that
	StatusOtherPort = http.StatusBadGateway          // the joiner's agent listens on another port
	StatusSameNode  = http.StatusServiceUnavailable  // the joiner is the node that it asks
)

// Refusal is an answer that says no.
type Refusal struct {
	Status  int
	Message string // for whoever asks
	Err     error  // for the log; a stranger does not hear of it
}

// Error is what the log says.
func (r *Refusal) Error() string {
	if r.Err == nil {
		return r.Message
	}
	return r.Message + ": " + r.Err.Error()
}

// Unwrap gives what only the log says.
func (r *Refusal) Unwrap() error { return r.Err }

// Body is the answer: MicroK8s' messages begin with a capital.
func (r *Refusal) Body() any {
	first, size := utf8.DecodeRuneInString(r.Message)
	return map[string]string{"error": string(unicode.ToUpper(first)) + r.Message[min(size, len(r.Message)):]}
}

// InvalidToken is what a stranger hears, whatever is wrong with a token.
func InvalidToken(why error) *Refusal {
	return &Refusal{Status: StatusFailed, Message: "invalid token", Err: why}
}

// bad refuses a body that cannot be read.
func bad(err error) error {
	return &Refusal{Status: http.StatusBadRequest, Message: "the request cannot be read", Err: err}
}

// Join presents a node that wants to join.
type Join struct {
	Token    string
	Hostname string
	Port     string // of its agent
	Worker   bool
}

// ParseJoin reads the body of JoinPath.
func ParseJoin(body []byte) (Join, error) {
	var in struct {
		Token    string `json:"token"`
		Hostname string `json:"hostname"`
		Port     string `json:"port"`
		Worker   any    `json:"worker"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return Join{}, bad(err)
	}
	return Join{
		Token: strings.TrimSpace(in.Token), Hostname: in.Hostname, Port: in.Port,
		Worker: in.Worker == true || in.Worker == "as-worker",
	}, nil
}

// Joined is what a worker hears; those of control-plane nodes are not answered.
type Joined struct {
	CA                string   `json:"ca"`
	CallbackToken     string   `json:"callback_token"`
	APIPort           string   `json:"apiport"`
	AuthorizationMode string   `json:"api_authz_mode"`
	KubeletArgs       string   `json:"kubelet_args"`
	HostnameOverride  string   `json:"hostname_override"`
	ControlPlaneNodes []string `json:"control_plane_nodes"`
	ClusterCIDR       string   `json:"cluster_cidr,omitempty"`
	// By these a client knows that it has become a worker.
	ServiceAccountKey string  `json:"service_account_key"`
	CAKey             *string `json:"ca_key"`
}

// The ends of a join's token with which its certificates are asked for.
const (
	KubeletSuffix = "-kubelet"
	ProxySuffix   = "-proxy"
)

// Sign asks for a certificate.
type Sign struct {
	Token   string `json:"token"`
	Request string `json:"request"` // PEM
}

// ParseSign reads the body of SignPath.
func ParseSign(body []byte) (Sign, error) {
	var in Sign
	if err := json.Unmarshal(body, &in); err != nil {
		return Sign{}, bad(err)
	}
	in.Token = strings.TrimSpace(in.Token)
	return in, nil
}

// Signed is the answer.
type Signed struct {
	Certificate string `json:"certificate"` // PEM
}

// Kubelet is what the arguments of a joiner's kubelet depend on.
type Kubelet struct{ DNS, Domain string }

// Args are the arguments of a MicroK8s worker's kubelet, in the variables that
// its programs replace.
func (k Kubelet) Args() string {
	var b bytes.Buffer
	for _, line := range []string{
		"--kubeconfig=${SNAP_DATA}/credentials/kubelet.config",
		"--cert-dir=${SNAP_DATA}/certs",
		"--client-ca-file=${SNAP_DATA}/certs/ca.crt",
		"--anonymous-auth=false",
		"--authentication-token-webhook=true",
		"--authorization-mode=Webhook",
		"--read-only-port=0",
		"--root-dir=${SNAP_COMMON}/var/lib/kubelet",
		"--fail-swap-on=false",
		`--eviction-hard="memory.available<100Mi,nodefs.available<1Gi,imagefs.available<1Gi"`,
		"--container-runtime-endpoint=${SNAP_COMMON}/run/containerd.sock",
		"--serialize-image-pulls=false",
		"--node-labels=microk8s.io/cluster=true,node.kubernetes.io/microk8s-worker=microk8s-worker",
		"--cluster-domain=" + k.Domain,
		"--cluster-dns=" + k.DNS,
	} {
		b.WriteString(line + "\n")
	}
	return b.String()
}
