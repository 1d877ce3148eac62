package main

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"mk8s.io/mk/sdk/addons"
	"mk8s.io/mk/sdk/changeset"
	"mk8s.io/mk/sdk/plugin"
	"mk8s.io/mk/sdk/sdktest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	sdktest.Conformance(t, func() plugin.Plugin { return New("1.0.0") }, sdktest.Build(t, "."), nil)
}

func TestDescription(t *testing.T) {
	t.Parallel()
	d, err := New("1.2.3").Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	list, err := New("1.2.3").List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	probe, err := New("1.2.3").Probe(t.Context(), "dns")
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.MarshalIndent(map[string]any{"description": d, "addons": list, "probe": probe}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	sdktest.GoldenText(t, "description", string(b)+"\n")
}

func plan(t *testing.T, r addons.PlanRequest) (plugin.Answer, error) {
	t.Helper()
	r.Call, r.Addon = sdktest.Call(), "dns"
	if r.Node.Name == "" {
		r.Node = sdktest.Node()
	}
	return New("1.0.0").Plan(t.Context(), r)
}

func TestPlans(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]addons.PlanRequest{
		"enable":         {Enable: true},
		"enable-servers": {Enable: true, Arguments: []string{"8.8.8.8,1.1.1.1"}, Values: map[string]string{"domain": "cluster.local"}},
		"enable-none":    {Enable: true, Arguments: []string{"none"}},
		"disable":        {},
	} {
		a, err := plan(t, r)
		if err != nil || !a.Next.IsZero() || a.NotYet != nil {
			t.Fatal(name, a, err)
		}
		sdktest.Golden(t, name, a.Changes)
	}
}

func TestUpstreams(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]string{
		"":                             "/etc/resolv.conf",
		"none":                         "",
		"8.8.8.8":                      "8.8.8.8",
		"8.8.8.8, 1.1.1.1,8.8.8.8":     "8.8.8.8 1.1.1.1",
		"10.0.0.53:5353":               "10.0.0.53:5353",
		"2001:db8::1":                  "2001:db8::1",
		"[2001:db8::1]:53,10.0.0.1":    "[2001:db8::1]:53 10.0.0.1",
		"example.com":                  "!",
		"8.8.8.8,":                     "!",
		"127.0.0.53":                   "!",
		"::1":                          "!",
		"0.0.0.0":                      "!",
		"10.152.183.10":                "!",
		"10.152.183.10:53":             "!",
		"8.8.8.8:0":                    "!",
		"fe80::1%eth0":                 "!",
		"8.8.8.8 {\n}":                 "!",
		"/etc/shadow":                  "!",
		strings.Repeat("10.0.0.1,", 3): "!",
		"none,8.8.8.8":                 "!",
		"1.0.0.1,1.0.0.2,1.0.0.3,1.0.0.4,1.0.0.5,1.0.0.6,1.0.0.7,1.0.0.8,1.0.0.9,1.0.1.1,1.0.1.2,1.0.1.3,1.0.1.4,1.0.1.5,1.0.1.6,1.0.1.7": "!",
	} {
		var arguments []string
		if word != "" {
			arguments = strings.Split(word, ":") // as the command line does
		}
		got, err := upstreams(addons.PlanRequest{Node: sdktest.Node(), Arguments: arguments})
		if want == "!" && !errors.Is(err, plugin.BadArgument) || want != "!" && (err != nil || got != want) {
			t.Errorf("%q: %q %v", word, got, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	odd := sdktest.Node()
	odd.Cluster.DNSDomain = "x }\nevil"
	none := sdktest.Node()
	none.Cluster.DNSAddress = ""
	for name, r := range map[string]addons.PlanRequest{
		"unknown value":   {Enable: true, Values: map[string]string{"color": "blue"}},
		"another domain":  {Enable: true, Values: map[string]string{"domain": "corp.example"}},
		"odd domain":      {Enable: true, Node: odd},
		"no address":      {Enable: true, Node: none},
		"disable of what": {Arguments: []string{"8.8.8.8"}},
	} {
		if a, err := plan(t, r); !errors.Is(err, plugin.BadArgument) {
			t.Errorf("%s: %v %v", name, a, err)
		}
	}
}

// Every object is one that the grants name, and the grants name no other.
func TestGrantsAreExact(t *testing.T) {
	t.Parallel()
	d, err := New("1.0.0").Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	a, err := plan(t, addons.PlanRequest{Enable: true})
	if err != nil {
		t.Fatal(err)
	}
	granted := map[string]bool{}
	for _, g := range d.Grants.Objects {
		for _, k := range g.Kinds {
			for _, n := range namespacesOf(g.Namespaces) {
				granted[g.Group+"/"+k+"/"+n] = false
			}
		}
	}
	manifests := a.Changes.Operations[0].Action.(*changeset.ApplyManifests).Manifests
	for _, doc := range strings.Split(string(manifests), "\n---\n") {
		var o struct {
			APIVersion, Kind string
			Metadata         struct{ Name, Namespace string }
		}
		if err := yaml.UnmarshalStrict([]byte(onlyHead(t, doc)), &o); err != nil {
			t.Fatalf("%v\n%s", err, doc)
		}
		group, _, ok := strings.Cut(o.APIVersion, "/")
		if !ok {
			group = ""
		}
		key := group + "/" + o.Kind + "/" + o.Metadata.Namespace
		if _, ok := granted[key]; !ok {
			t.Errorf("%s is not granted", key)
		}
		granted[key] = true
	}
	for k, used := range granted {
		if !used {
			t.Errorf("%s is granted for nothing", k)
		}
	}
}

// namespacesOf is the namespaces, or the one of cluster-scoped objects.
func namespacesOf(namespaces []string) []string {
	if len(namespaces) == 0 {
		return []string{""}
	}
	return namespaces
}

// onlyHead checks that a document is YAML and keeps what names the object.
func onlyHead(t *testing.T, doc string) string {
	t.Helper()
	var all map[string]any
	if err := yaml.UnmarshalStrict([]byte(doc), &all); err != nil {
		t.Fatalf("%v\n%s", err, doc)
	}
	meta, _ := all["metadata"].(map[string]any)
	b, err := yaml.Marshal(map[string]any{"apiVersion": all["apiVersion"], "kind": all["kind"],
		"metadata": map[string]any{"name": meta["name"], "namespace": meta["namespace"]}})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// The image is the one that is built and loaded into every node.
func TestTheImageIsTheOneThatShips(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../cmd/parts/coredns/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(strings.Fields(string(b)), "v"+dnsVersion) {
		t.Errorf("dns %s is not the CoreDNS that is built", dnsVersion)
	}
}

func FuzzUpstreams(f *testing.F) {
	f.Add("8.8.8.8,1.1.1.1")
	f.Add("[::1]:53")
	f.Fuzz(func(t *testing.T, word string) {
		got, err := upstreams(addons.PlanRequest{Node: sdktest.Node(), Arguments: []string{word}})
		if err == nil && got != "/etc/resolv.conf" && strings.Trim(got, "0123456789abcdef.:[] ") != "" {
			t.Fatalf("%q lets %q into the Corefile", word, got)
		}
	})
}
