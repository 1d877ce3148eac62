//go:build cluster

package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mk8s.io/mk/core/change"
)

// plan is what a dry run answers with --output json.
type plan struct {
	Changes []change.Line
	Then    []string
}

// world is what a command may change: files, processes of services, objects.
type world struct {
	files, services, objects map[string]string
}

// quiet are the parts of a node's folder that change by themselves, and where
// mk notes its own work.
var quiet = []string{ //nolint:gochecknoglobals // a constant list
	"var/log/**", "var/lib/*/**", "var/kubernetes/backend/etcd/**", "var/journal/**", "var/lock/apply*", "var/lock/operation*", "var/certs/**", "**/.mk-*", "var/wanted.json", "var/peers.json",
}

func (m *machine) world() world {
	m.t.Helper()
	w := world{files: m.files(), services: map[string]string{}}
	if _, ok := w.files["node.json"]; !ok {
		return w
	}
	_, stopped := w.files["var/lock/stopped.lock"]
	if !stopped {
		m.run("mk", "status", "--wait-ready", "--timeout", "120s")
		w.objects = m.objects()
	}
	w.services = m.processes()
	w.files = m.files()
	return w
}

// processes are those of the services that run.
func (m *machine) processes() map[string]string {
	m.t.Helper()
	out := map[string]string{}
	m.eventually(time.Minute, func() error {
		var status struct {
			Services []struct {
				Name, State string
				PID         int
			}
			Silent map[string]string
		}
		text, err := m.try(time.Minute, "mk", "status", "-o", "json") // not ready is no fault here
		if bad := json.Unmarshal([]byte(text), &status); bad != nil {
			return errors.Join(err, bad)
		}
		if why := status.Silent["services"]; why != "" {
			return errText("the services: " + why)
		}
		for _, s := range status.Services {
			if s.PID != 0 {
				out[s.Name] = fmt.Sprintf("%s %d", s.State, s.PID)
			}
		}
		return nil
	})
	return out
}

// files is every file of the node's folder, those of certs as people name them.
func (m *machine) files() map[string]string {
	m.t.Helper()
	out := map[string]string{}
	current, _ := os.Readlink(filepath.Join(m.Root, "certs"))
	err := filepath.WalkDir(m.Root, func(p string, d fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil {
			return err
		}
		name, err := filepath.Rel(m.Root, p)
		if err != nil {
			return err
		}
		if in, ok := strings.CutPrefix(name, current+"/"); ok && current != "" {
			name = "certs/" + in
		}
		if name == "certs" { // a link to what is looked at as certs/
			out[name] = "a link"
			return nil
		}
		if name == "." || slices.ContainsFunc(quiet, func(glob string) bool { return change.Match(glob, name) }) {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if d.Type()&fs.ModeSymlink != 0 {
			out[name], err = os.Readlink(p)
			return err
		}
		if d.IsDir() {
			name += "/"
		}
		out[name] = info.Mode().String()
		if d.Type().IsRegular() {
			data, err := os.ReadFile(p)
			out[name] += string(data)
			return err
		}
		return nil
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

// derived are kinds that controllers and nodes write all the time.
var derived = []string{ //nolint:gochecknoglobals // a constant list
	"Event", "Lease", "Endpoints", "EndpointSlice", "Pod", "ReplicaSet", "ControllerRevision", "ComponentStatus", "Node", "CSINode",
	"CertificateSigningRequest", "PodMetrics", "NodeMetrics", "PriorityLevelConfiguration", "FlowSchema", "IPAddress",
}

// objects is every object of the cluster that somebody asked for.
func (m *machine) objects() map[string]string {
	m.t.Helper()
	kinds := strings.Join(strings.Fields(m.kubectl("api-resources", "--verbs=list", "-o", "name")), ",")
	list := m.kubectl("get", kinds, "-A", "--ignore-not-found", "-o",
		`jsonpath={range .items[*]}{.kind} {.apiVersion} {.metadata.namespace}/{.metadata.name} {.metadata.uid}{.metadata.generation}{.data}{.rules}{.subjects}{"\n"}{end}`)
	out := map[string]string{}
	for line := range strings.Lines(list) {
		words := strings.SplitN(strings.TrimSpace(line), " ", 4)
		kind, name := words[0], strings.TrimPrefix(words[2], "/")
		if slices.Contains(derived, kind) || strings.HasSuffix(name, "/kube-root-ca.crt") {
			continue
		}
		if group, _, ok := strings.Cut(words[1], "/"); ok {
			kind += "." + group
		}
		out[kind+" "+name] = words[3]
		if strings.HasPrefix(name, "mk-system/report.") {
			out[kind+" "+name] = "" // what its agent says again and again
		}
	}
	return out
}

// differences are the keys whose values differ.
func differences(before, after map[string]string) map[string]bool {
	out := map[string]bool{}
	for k, v := range after {
		if was, ok := before[k]; !ok || was != v {
			out[k] = true
		}
	}
	for k := range before {
		if _, ok := after[k]; !ok {
			out[k] = true
		}
	}
	return out
}

// promised has a command tell what it would do, sees that this changed
// nothing, and then has it do that and nothing else.
func (m *machine) promised(words ...string) plan {
	m.t.Helper()
	what := "mk " + strings.Join(words, " ")
	before := m.world()
	var p plan
	text := m.run("mk", append(slices.Clone(words), "--dry-run", "-o", "json")...)
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		m.t.Fatalf("%s: %v\n%s", what, err, text)
	}
	idle := m.world()
	for _, d := range []map[string]bool{differences(before.files, idle.files), differences(before.services, idle.services), differences(before.objects, idle.objects)} {
		if len(d) > 0 {
			m.t.Errorf("the dry run of %s changed %v", what, slices.Sorted(maps.Keys(d)))
		}
	}
	m.run("mk", append(slices.Clone(words), "--yes")...)
	after := m.world()
	m.holds(what, p, idle, after)
	return p
}

func (m *machine) holds(what string, p plan, before, after world) {
	m.t.Helper()
	files, services := differences(before.files, after.files), differences(before.services, after.services)
	named := map[string]bool{}
	for _, l := range p.Changes {
		for _, glob := range l.Paths {
			hit := false
			for name := range files {
				if change.Match(glob, strings.TrimSuffix(name, "/")) || strings.HasPrefix(glob, name) && strings.HasSuffix(name, "/") {
					named[name], hit = true, true
				}
			}
			if !hit && !strings.Contains(glob, "*") && l.Effect != "" && l.Effect != "nothing" {
				m.t.Errorf("%s: %s %s %s is shown, %s did not change", what, l.Verb, l.Target, l.Effect, glob)
			}
		}
	}
	for name := range files {
		if !named[name] {
			m.t.Errorf("%s: %s changed and was not shown: %.300s -> %.300s", what, name, before.files[name], after.files[name])
		}
	}
	m.named(what, p, services, func(l change.Line) string {
		if strings.HasSuffix(l.Verb, " service") {
			return l.Target
		}
		return ""
	})
	if _, later := before.files["node.json"]; after.objects == nil || (later && before.objects == nil) {
		return // there is nobody to ask how they are, or were
	}
	objects := differences(before.objects, after.objects)
	if before.objects == nil { // of those that there are, mk's own
		maps.DeleteFunc(objects, func(name string, _ bool) bool {
			return !strings.Contains(name, " mk:") && !strings.Contains(name, " mk-")
		})
		delete(objects, "ServiceAccount mk-system/default")
	}
	maps.DeleteFunc(objects, func(name string, _ bool) bool {
		// mk's own list of what "apply manifests" made.
		inventory, ok := strings.CutPrefix(name, "ConfigMap mk-system/mk-inventory-")
		return ok && slices.ContainsFunc(p.Changes, func(l change.Line) bool {
			return strings.HasSuffix(l.Verb, " manifests") && l.Target == inventory && l.Effect != "nothing"
		})
	})
	m.named(what, p, objects, func(l change.Line) string {
		if strings.HasPrefix(l.Verb, "apply object") || l.Verb == "delete object" {
			return l.Target
		}
		return ""
	})
}

// named compares what changed with the targets of a kind of lines.
func (m *machine) named(what string, p plan, changed map[string]bool, of func(change.Line) string) {
	m.t.Helper()
	shown := map[string]bool{}
	for _, l := range p.Changes {
		if name := of(l); name != "" && l.Effect != "nothing" {
			shown[name] = true
		}
	}
	for name := range differences(set(shown), set(changed)) {
		m.t.Errorf("%s: %s: shown %t, changed %t", what, name, shown[name], changed[name])
	}
}

func set(of map[string]bool) map[string]string {
	out := map[string]string{}
	for k := range of {
		out[k] = ""
	}
	return out
}
