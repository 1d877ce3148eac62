package microk8s

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"mk8s.io/mk/sdk/changeset"
)

// Configure asks a node to change arguments and restart services.
type Configure struct {
	Callback string
	Services []ServiceChange
	Addons   int // asked for; none is done
}

// ServiceChange is what is asked of one service.
type ServiceChange struct {
	Name    string
	Set     []Argument
	Remove  []string // options, without dashes
	Restart bool
}

// Argument is an option without its dashes, and its value.
type Argument struct{ Option, Value string }

// mostChanges bounds one request: a call of MicroK8s' own asks for one.
const mostChanges = 100

// ParseConfigure reads the body of ConfigurePath.
func ParseConfigure(body []byte) (Configure, error) {
	var in struct {
		Callback string `json:"callback"`
		Service  []struct {
			Name    string              `json:"name"`
			Update  []map[string]string `json:"arguments_update"`
			Remove  []string            `json:"arguments_remove"`
			Restart any                 `json:"restart"`
		} `json:"service"`
		Addon []json.RawMessage `json:"addon"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return Configure{}, bad(err)
	}
	out := Configure{Callback: strings.TrimSpace(in.Callback), Addons: len(in.Addon)}
	count := 0
	for _, s := range in.Service {
		change := ServiceChange{Name: s.Name, Restart: s.Restart == true || s.Restart == "yes"}
		for _, pair := range s.Update {
			for option, value := range pair {
				change.Set = append(change.Set, Argument{strings.TrimPrefix(option, "--"), value})
			}
		}
		slices.SortFunc(change.Set, func(a, b Argument) int { return strings.Compare(a.Option, b.Option) })
		for _, option := range s.Remove {
			change.Remove = append(change.Remove, strings.TrimPrefix(option, "--"))
		}
		out.Services = append(out.Services, change)
		count += 1 + len(change.Set) + len(change.Remove)
	}
	if count > mostChanges {
		return Configure{}, bad(fmt.Errorf("%d changes at once, more than %d", count, mostChanges))
	}
	return out, nil
}

// arguments are those that a caller may change, by the name of their file. None
// of them names a file, a program, an address or a right: with a callback token
// nobody becomes root.
func arguments() map[string][]string {
	return map[string][]string{
		"kubelet": {
			"cluster-dns", "cluster-domain", "container-log-max-files", "container-log-max-size", "eviction-hard", "eviction-soft",
			"eviction-soft-grace-period", "image-gc-high-threshold", "image-gc-low-threshold", "kube-reserved", "max-pods",
			"pods-per-core", "registry-burst", "registry-qps", "serialize-image-pulls", "system-reserved", "v",
		},
		"kube-proxy": {"conntrack-max-per-core", "conntrack-min", "iptables-min-sync-period", "iptables-sync-period", "v"},
		"kube-apiserver": {
			"default-not-ready-toleration-seconds", "default-unreachable-toleration-seconds", "event-ttl",
			"max-mutating-requests-inflight", "max-requests-inflight", "v",
		},
		"kube-controller-manager": {"horizontal-pod-autoscaler-sync-period", "node-monitor-grace-period", "node-monitor-period", "terminated-pod-gc-threshold", "v"},
		"kube-scheduler":          {"v"},
	}
}

// services that a caller may restart, by MicroK8s' names and mk's.
func services() map[string]string {
	out := map[string]string{"containerd": "containerd", "flanneld": "flanneld", "kubelite": "kubelite"}
	for _, s := range []string{"apiserver", "controller-manager", "scheduler", "kubelet", "proxy"} {
		out[s], out["kube-"+s] = "kubelite", "kubelite"
	}
	return out
}

// Changes is the request as a ChangeSet, or a Refusal that names what is not on
// the list. All of it is done or nothing.
func (c Configure) Changes() (changeset.ChangeSet, error) {
	var cs changeset.ChangeSet
	if c.Addons > 0 {
		return cs, &Refusal{Status: StatusNotHere, Message: "addons are not enabled on this route: mk enable, on a control-plane node"}
	}
	add := func(a changeset.Action) { cs.Operations = append(cs.Operations, changeset.Operation{Action: a}) }
	for _, s := range c.Services {
		for _, a := range s.Set {
			if !slices.Contains(arguments()[s.Name], a.Option) {
				return cs, notListed(s.Name, a.Option)
			}
			add(&changeset.SetArgument{Service: s.Name, Option: a.Option, Value: &a.Value})
		}
		for _, option := range s.Remove {
			if !slices.Contains(arguments()[s.Name], option) {
				return cs, notListed(s.Name, option)
			}
			add(&changeset.RemoveArgument{Service: s.Name, Option: option})
		}
		if !s.Restart {
			continue
		}
		service, ok := services()[s.Name]
		if !ok {
			return cs, &Refusal{Status: StatusFailed, Message: fmt.Sprintf("the service %.40q is not restarted for others", s.Name)}
		}
		add(&changeset.ControlService{Service: service, Action: changeset.Restart})
	}
	return cs, nil
}

func notListed(service, option string) error {
	return &Refusal{Status: StatusFailed, Message: fmt.Sprintf("the argument --%.60s of %.40q is not changed for others: mk args set, on the node", option, service)}
}
