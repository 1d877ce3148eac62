package microk8s

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"mk8s.io/mk/sdk/changeset"
)

func TestJoinIsReadAsMicroK8sDoes(t *testing.T) {
	t.Parallel()
	const rest = `"token":" abc ","hostname":"H1","port":"25000","can_handle_x509_auth":true,"x":[1]`
	for body, worker := range map[string]bool{
		`{` + rest + `,"worker":true}`:        true,
		`{` + rest + `,"worker":"as-worker"}`: true,
		`{` + rest + `,"worker":"as-master"}`: false,
		`{` + rest + `,"worker":false}`:       false,
		`{` + rest + `,"worker":"true"}`:      false,
		`{` + rest + `}`:                      false,
	} {
		got, err := ParseJoin([]byte(body))
		if want := (Join{Token: "abc", Hostname: "H1", Port: "25000", Worker: worker}); err != nil || got != want {
			t.Errorf("%s: %+v %v", body, got, err)
		}
	}
	for _, body := range []string{``, `[]`, `{"port":25000}`, `{"token":1}`, `{"hostname":{}}`, `{} {}`} {
		_, err := ParseJoin([]byte(body))
		refused(t, body, err, http.StatusBadRequest)
	}
}

func refused(t *testing.T, what string, err error, status int) {
	t.Helper()
	r, ok := errors.AsType[*Refusal](err)
	if !ok || r.Status != status {
		t.Errorf("%s: %v, want the status %d", what, err, status)
	}
}

func TestConfigureChangesWhatIsListed(t *testing.T) {
	t.Parallel()
	// As distributed_op asks.
	for body, want := range map[string]string{
		`{"callback":"c","action_str":"x","service":[{"name":"kubelet","restart":"yes"}]}`:                        "control kubelite",
		`{"service":[{"name":"kubelet","arguments_update":[{"--cluster-dns":"10.152.183.10"}]}]}`:                 "kubelet/cluster-dns=10.152.183.10",
		`{"service":[{"name":"kubelet","arguments_remove":["--cluster-dns"]}]}`:                                   "remove kubelet/cluster-dns",
		`{"service":[{"name":"kube-apiserver","arguments_update":[{"--v":"4"}],"restart":true}]}`:                 "kube-apiserver/v=4 control kubelite",
		`{"service":[{"name":"containerd","restart":true},{"name":"proxy","restart":"no"}]}`:                      "control containerd",
		`{"service":[{"name":"kubelet","arguments_update":[{"v":"2","max-pods":"9"}],"arguments_remove":["v"]}]}`: "kubelet/max-pods=9 kubelet/v=2 remove kubelet/v",
		`{"service":[]}`: "",
		`{}`:             "",
	} {
		c, err := ParseConfigure([]byte(body))
		if err != nil {
			t.Errorf("%s: %v", body, err)
		}
		cs, err := c.Changes()
		if got := said(cs); err != nil || got != want {
			t.Errorf("%s: %q %v, want %q", body, got, err, want)
		}
	}
}

func said(cs changeset.ChangeSet) string {
	var out []string
	for _, op := range cs.Operations {
		switch a := op.Action.(type) {
		case *changeset.SetArgument:
			out = append(out, a.Service+"/"+a.Option+"="+*a.Value)
		case *changeset.RemoveArgument:
			out = append(out, "remove "+a.Service+"/"+a.Option)
		case *changeset.ControlService:
			out = append(out, "control "+a.Service)
		}
	}
	return strings.Join(out, " ")
}

func TestConfigureRefusesTheRest(t *testing.T) {
	t.Parallel()
	for body, status := range map[string]int{
		`{"addon":[{"name":"dns","enable":"true"}]}`:                                                    StatusNotHere,
		`{"service":[{"name":"../x","restart":true}]}`:                                                  StatusFailed,
		`{"service":[{"name":"../../etc/passwd","arguments_update":[{"v":"1"}]}]}`:                      StatusFailed,
		`{"service":[{"name":"kube-apiserver","arguments_update":[{"--token-auth-file":"/x"}]}]}`:       StatusFailed,
		`{"service":[{"name":"kube-apiserver","arguments_update":[{"--authorization-mode":"None"}]}]}`:  StatusFailed,
		`{"service":[{"name":"kube-apiserver","arguments_remove":["--client-ca-file"]}]}`:               StatusFailed,
		`{"service":[{"name":"kubelet","arguments_update":[{"--v":"1"},{"--anonymous-auth":"true"}]}]}`: StatusFailed,
		`{"service":[{"name":"kubelet","arguments_update":[{"----v":"1"}]}]}`:                           StatusFailed,
		`{"service":[{"name":"etcd","restart":true}]}`:                                                  StatusFailed,
		`{"service":[{"name":"cluster-agent","restart":true}]}`:                                         StatusFailed,
		`{"service":[{"name":"kubelet","arguments_update":[{"--v":1}]}]}`:                               http.StatusBadRequest,
		`{"service":{}}`: http.StatusBadRequest,
		`{"service":[{"name":"kubelet","arguments_remove":["` + strings.Repeat(`v","`, mostChanges) + `v"]}]}`: http.StatusBadRequest,
		`nonsense`: http.StatusBadRequest,
	} {
		c, err := ParseConfigure([]byte(body))
		if err == nil {
			_, err = c.Changes()
		}
		refused(t, body, err, status)
	}
}

// By null and "" a client knows that it has become a worker.
func TestJoinedHasWhatClientsLookAt(t *testing.T) {
	t.Parallel()
	data, err := json.Marshal(Joined{CA: "c", APIPort: "16443", ControlPlaneNodes: []string{}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"ca_key":null`, `"service_account_key":""`, `"apiport":"16443"`, `"control_plane_nodes":[]`, `"hostname_override":""`} {
		if !strings.Contains(string(data), want) {
			t.Errorf("%s lacks %s", data, want)
		}
	}
	for line := range strings.Lines(Kubelet{DNS: "10.152.183.10", Domain: "cluster.local"}.Args()) {
		if !strings.HasPrefix(line, "--") || !strings.Contains(line, "=") || strings.Contains(strings.TrimSpace(line), " ") {
			t.Errorf("a line that MicroK8s' programs read otherwise: %q", line)
		}
	}
}

func TestRefusalBeginsWithACapitalAndHidesWhy(t *testing.T) {
	t.Parallel()
	r := InvalidToken(errors.New("it was used"))
	data, _ := json.Marshal(r.Body())
	if string(data) != `{"error":"Invalid token"}` || !strings.Contains(r.Error(), "used") {
		t.Errorf("%s, in the log %q", data, r.Error())
	}
	for _, m := range []string{"", "ä", "\xff"} {
		if _, err := json.Marshal((&Refusal{Message: m}).Body()); err != nil {
			t.Error(err)
		}
	}
}

func FuzzBodies(f *testing.F) {
	f.Add([]byte(`{"token":"a","hostname":"b","port":"1","worker":true}`))
	f.Add([]byte(`{"callback":"a","service":[{"name":"kubelet","arguments_update":[{"--v":"1"}],"arguments_remove":["x"],"restart":"yes"}]}`))
	f.Add([]byte(`{"token":"a","request":"b"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if j, err := ParseJoin(body); err == nil && j.Token != strings.TrimSpace(j.Token) {
			t.Errorf("%q", j.Token)
		}
		if _, err := ParseSign(body); err != nil {
			refused(t, "sign", err, http.StatusBadRequest)
		}
		c, err := ParseConfigure(body)
		if err != nil {
			refused(t, "configure", err, http.StatusBadRequest)
			return
		}
		cs, err := c.Changes()
		if err != nil {
			return
		}
		for _, op := range cs.Operations {
			switch a := op.Action.(type) {
			case *changeset.SetArgument:
				listed(t, a.Service, a.Option)
			case *changeset.RemoveArgument:
				listed(t, a.Service, a.Option)
			case *changeset.ControlService:
				if a.Service != "kubelite" && a.Service != "containerd" && a.Service != "flanneld" {
					t.Errorf("%s is restarted", a.Service)
				}
			default:
				t.Errorf("%T", a)
			}
		}
	})
}

// listed holds the list against the rights that nobody gets with a callback
// token.
func listed(t *testing.T, service, option string) {
	t.Helper()
	for _, word := range []string{"file", "path", "dir", "auth", "cert", "key", "config", "plugin", "server", "address", "token", "host", "command", "image-credential"} {
		if strings.Contains(option, word) {
			t.Errorf("%s --%s is changed by who has a callback token", service, option)
		}
	}
}
