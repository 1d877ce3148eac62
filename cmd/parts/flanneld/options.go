package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"k8s.io/klog/v2"
)

// options are the command line: upstream's flags by their names and with their defaults, except that
// the store is always the cluster, healthz listens on 127.0.0.1, and node-name and cleanup are new.
type options struct {
	version, cleanup          bool
	kubeAPIURL                string
	kubeconfig                string
	annotationPrefix          string
	nodeName                  string
	netConfPath               string
	subnetFile                string
	ifaces, ifaceRegexes      stringList
	ifaceCanReach             string
	publicIP, publicIPv6      string
	ipMasq                    bool
	ipMasqNoFullyRandom       bool
	iptablesResyncSeconds     int
	forwardRules              bool
	blackholeRoute            bool
	setNodeNetworkUnavailable bool
	healthzIP                 string
	healthzPort               int
}

// stringList is a flag that may be given several times.
type stringList []string

// String is what usage prints as the default.
func (l *stringList) String() string { return strings.Join(*l, ",") }

// Set adds one more value.
func (l *stringList) Set(v string) error {
	*l = append(*l, v)
	return nil
}

// parseOptions reads args; a flag that is not among them is taken from FLANNELD_<FLAG>, as upstream does.
// Usage goes to w. It also sets up klog, which has one configuration per process.
func parseOptions(args []string, env func(string) (string, bool), w io.Writer) (options, error) {
	var o options
	fs := flag.NewFlagSet("flanneld", flag.ContinueOnError)
	fs.SetOutput(w)
	o.register(fs)
	if err := logFlags(fs); err != nil {
		return options{}, err
	}
	if err := fs.Parse(args); err != nil {
		return options{}, err
	}
	if fs.NArg() > 0 {
		return options{}, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if err := fromEnvironment(fs, env); err != nil {
		return options{}, err
	}
	if o.nodeName == "" {
		o.nodeName, _ = env("NODE_NAME")
	}
	return o, o.check()
}

func (o *options) register(fs *flag.FlagSet) {
	fs.BoolVar(&o.version, "version", false, "print version and exit")
	fs.BoolVar(&o.cleanup, "cleanup", false, "remove the interfaces, routes, rules and subnet file that an earlier run left, then exit")
	fs.Bool("kube-subnet-mgr", true, "accepted for compatibility: the cluster is the only store of subnets")
	fs.StringVar(&o.kubeAPIURL, "kube-api-url", "", "URL of the API server; overrides the kubeconfig's")
	fs.StringVar(&o.kubeconfig, "kubeconfig-file", "", "kubeconfig file")
	fs.StringVar(&o.annotationPrefix, "kube-annotation-prefix", "flannel.alpha.coreos.com", "prefix of the node annotations")
	fs.StringVar(&o.nodeName, "node-name", "", "name of this node (default: the environment's NODE_NAME)")
	fs.StringVar(&o.netConfPath, "net-config-path", "/etc/kube-flannel/net-conf.json", "path to the network configuration file")
	fs.StringVar(&o.subnetFile, "subnet-file", "/run/flannel/subnet.env", "file to which subnet, MTU and so on are written")
	fs.Var(&o.ifaces, "iface", "interface (IP or name) for traffic between nodes; may be repeated, the first match is taken")
	fs.Var(&o.ifaceRegexes, "iface-regex", "regular expression for that interface's IP or name; may be repeated, asked after iface")
	fs.StringVar(&o.ifaceCanReach, "iface-can-reach", "", "take the interface of the route to this IP")
	fs.StringVar(&o.publicIP, "public-ip", "", "IPv4 address by which other nodes reach this one")
	fs.StringVar(&o.publicIPv6, "public-ipv6", "", "IPv6 address by which other nodes reach this one")
	fs.BoolVar(&o.ipMasq, "ip-masq", false, "masquerade traffic that leaves the pod network")
	fs.BoolVar(&o.ipMasqNoFullyRandom, "ip-masq-fully-random-disable", false, "masquerade without --random-fully")
	fs.IntVar(&o.iptablesResyncSeconds, "iptables-resync", 5, "seconds between checks of the iptables rules")
	fs.BoolVar(&o.forwardRules, "iptables-forward-rules", true, "accept forwarded traffic of the pod network")
	fs.BoolVar(&o.blackholeRoute, "ip-blackhole-route", false, "add a blackhole route for this node's pod network")
	fs.BoolVar(&o.setNodeNetworkUnavailable, "set-node-network-unavailable", true, "set the node condition NetworkUnavailable to false when ready")
	fs.StringVar(&o.healthzIP, "healthz-ip", "127.0.0.1", "address on which /healthz and /readyz are served")
	fs.IntVar(&o.healthzPort, "healthz-port", 0, "port on which /healthz and /readyz are served (0: not at all)")
}

// logFlags makes klog write to standard error only and offers its verbosity flags.
func logFlags(fs *flag.FlagSet) error {
	all := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(all)
	for name, value := range map[string]string{"logtostderr": "true", "legacy_stderr_threshold_behavior": "false", "stderrthreshold": "INFO"} {
		if err := all.Set(name, value); err != nil {
			return fmt.Errorf("setting klog's %s: %w", name, err)
		}
	}
	for _, name := range []string{"v", "vmodule"} {
		f := all.Lookup(name)
		fs.Var(f.Value, f.Name, f.Usage)
	}
	return nil
}

func fromEnvironment(fs *flag.FlagSet, env func(string) (string, bool)) error {
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	var errs []error
	fs.VisitAll(func(f *flag.Flag) {
		name := "FLANNELD_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value, ok := env(name)
		if !ok || value == "" || given[f.Name] {
			return
		}
		if err := fs.Set(f.Name, value); err != nil {
			errs = append(errs, fmt.Errorf("%s=%q: %w", name, value, err))
		}
	})
	return errors.Join(errs...)
}

// check reports every fault at once.
func (o *options) check() error {
	if o.version || o.cleanup {
		return nil
	}
	var errs []error
	if o.nodeName == "" {
		errs = append(errs, errors.New("the node's name is missing: --node-name or NODE_NAME"))
	}
	if o.kubeconfig == "" && o.kubeAPIURL == "" && os.Getenv("KUBERNETES_SERVICE_HOST") == "" {
		errs = append(errs, errors.New("--kubeconfig-file is missing"))
	}
	if o.healthzPort < 0 || o.healthzPort > 65535 {
		errs = append(errs, fmt.Errorf("--healthz-port %d is no port", o.healthzPort))
	}
	if o.iptablesResyncSeconds < 1 {
		errs = append(errs, fmt.Errorf("--iptables-resync %d is less than a second", o.iptablesResyncSeconds))
	}
	return errors.Join(errs...)
}
