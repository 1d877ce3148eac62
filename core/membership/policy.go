package membership

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"mk8s.io/mk/core/cluster"
	"mk8s.io/mk/core/peer"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/tokens"
)

// within holds a joiner to what its token gives. The strategy is asked, too,
// but what control-plane nodes share must not hang on a plugin's diligence.
func within(b peer.Begin, held tokens.Reservation) error {
	if held.Role == plugin.RoleWorker && b.Role != plugin.RoleWorker {
		return &plugin.Error{Reason: NotPermitted, Message: "the token lets in workers only", Next: "join with --worker, or: mk add-node"}
	}
	if len(held.BoundNames) > 0 && !slices.Contains(held.BoundNames, b.Name) {
		return plugin.Errorf(NotPermitted, "the token is for %s, not for %s", strings.Join(held.BoundNames, ", "), b.Name)
	}
	return nil
}

// ownAddresses are those of a joiner's addresses that its certificates may
// hold: not a service's, a pod's or another node's, in whose place it could
// answer with such a certificate. Its first address must be among them.
func ownAddresses(b peer.Begin, podCIDR, serviceCIDR string, others []*cluster.Member) ([]string, error) {
	var inside []netip.Prefix
	for s := range strings.SplitSeq(podCIDR+","+serviceCIDR, ",") {
		p, err := netip.ParsePrefix(strings.TrimSpace(s))
		if err != nil {
			return nil, err
		}
		inside = append(inside, p)
	}
	taken := map[string]bool{}
	for _, m := range others {
		taken[m.Address] = true
		for _, a := range m.Addresses {
			taken[a] = true
		}
	}
	own := func(s string) bool {
		a, err := netip.ParseAddr(s)
		return err == nil && !a.IsLoopback() && !taken[a.Unmap().String()] &&
			!slices.ContainsFunc(inside, func(p netip.Prefix) bool { return p.Contains(a.Unmap()) })
	}
	if !own(b.Address) {
		return nil, plugin.Errorf(NameTaken, "the address %s is another node's, or in the range of pods or services", b.Address)
	}
	return slices.DeleteFunc(slices.Clone(b.Addresses), func(s string) bool { return !own(s) }), nil
}

// checkLabel refuses the labels that Kubernetes keeps from kubelets
// (NodeRestriction): who holds a token must not draw workloads to itself that
// are meant for other nodes.
func checkLabel(key string) error {
	space, _, ok := strings.Cut(key, "/")
	reserved := ok && (space == "kubernetes.io" || space == "k8s.io" || strings.HasSuffix(space, ".kubernetes.io") || strings.HasSuffix(space, ".k8s.io"))
	allowed := []string{"topology.kubernetes.io/zone", "topology.kubernetes.io/region", "node.kubernetes.io/instance-type"}
	if !reserved || slices.Contains(allowed, key) || strings.HasSuffix(space, "kubelet.kubernetes.io") ||
		(space == "node.kubernetes.io" || strings.HasSuffix(space, ".node.kubernetes.io")) {
		return nil
	}
	return &plugin.Error{Reason: NotPermitted, Message: "a node cannot give itself the label " + key,
		Next: "when it has joined, on a control-plane node: mk kubectl label node"}
}

// checkMarks reports what is wrong with the labels and taints that a joiner
// asks for.
func checkMarks(b peer.Begin) error {
	if len(b.Labels) > 100 || len(b.Taints) > 100 {
		return plugin.Errorf(plugin.BadArgument, "more than 100 labels or taints")
	}
	var errs []error
	for k := range b.Labels {
		errs = append(errs, checkLabel(k))
	}
	for _, t := range b.Taints {
		_, err := ParseTaint(t)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// keptKeys is how many keys of a node's agent are taken: the newest, and the
// one before it, with which the node asks until the newest lies on its disk.
const keptKeys = 2

// speaks reports whether a member's certificate is of the node that the record
// is of: a name may have gone to another machine since it was signed.
func speaks(m *cluster.Member, who Caller) bool {
	return m.State == cluster.Joined && (len(m.Keys) == 0 || slices.Contains(m.Keys, who.Key))
}

// noteKey remembers the newest key of a node's agent.
func noteKey(m *cluster.Member, key string) {
	if slices.Contains(m.Keys, key) {
		return
	}
	m.Keys = append(m.Keys, key)
	m.Keys = m.Keys[max(0, len(m.Keys)-keptKeys):]
}

// committed reports whether a join was committed already: its answer was lost.
func committed(all []*cluster.Member, who Caller, operation string) *cluster.Member {
	i := slices.IndexFunc(all, func(m *cluster.Member) bool {
		return m.State == cluster.Joined && m.Operation == operation && operation != "" && m.Key == who.Key && who.Key != ""
	})
	if i < 0 {
		return nil
	}
	return all[i]
}

// tokenLease is how long a token is held for a joiner: longer than any join
// takes. Whoever gives up gives it back; who dies has it given back with the
// rest, when joinLease has ended.
const tokenLease = time.Hour

// firstLease is how long it is held until the join is noted: longer than a
// joiner is silent between two tries. Nobody would give it back.
const firstLease = 2 * time.Minute
