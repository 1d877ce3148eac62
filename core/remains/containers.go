package remains

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mk8s.io/mk/core/service/systemd"
)

// maxState bounds what is read of one container.
const maxState = 8 << 20

// containers are the cgroups of the node's containers, in every hierarchy.
// Where systemd keeps the cgroups they lie beside those of others, and not
// below the node's own: what counts is what runc has written down.
func (n Node) containers() ([]string, error) {
	files, err := filepath.Glob(filepath.Join(n.Runc, "*", "*", "state.json"))
	if err != nil {
		return nil, fmt.Errorf("look for containers: %w", err)
	}
	var out []string
	for _, f := range files {
		dirs, err := cgroupsOf(f)
		if err != nil {
			return nil, err
		}
		out = append(out, dirs...)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

func cgroupsOf(state string) ([]string, error) {
	f, err := os.Open(state)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // it was removed meanwhile
	}
	if err != nil {
		return nil, fmt.Errorf("look for containers: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	data, err := io.ReadAll(io.LimitReader(f, maxState))
	if err != nil {
		return nil, fmt.Errorf("look for containers: %w", err)
	}
	var told struct {
		Cgroups map[string]string `json:"cgroup_paths"`
	}
	if err := json.Unmarshal(data, &told); err != nil {
		return nil, fmt.Errorf("look for containers: %s: %w", state, err)
	}
	var out []string
	for _, dir := range told.Cgroups {
		// Never a hierarchy's root, whatever is written there.
		if rel, err := filepath.Rel(cgroupRoot, dir); err == nil && filepath.IsLocal(rel) && strings.Contains(rel, "kubepods") {
			out = append(out, filepath.Clean(dir))
		}
	}
	return out, nil
}

// removeSlices has systemd let go of the pods' slices, and of those above them
// once no pod is left in them. It made them for runc and the kubelet, who are
// gone. Hierarchies that it does not know are cleared after it.
func (n Node) removeSlices(ctx context.Context, containers []string) error {
	if !n.Systemd {
		return nil
	}
	var units []string
	for _, dir := range containers {
		if pod := filepath.Base(filepath.Dir(dir)); strings.HasSuffix(pod, ".slice") && !slices.Contains(units, pod) {
			units = append(units, pod)
		}
	}
	if err := systemd.StopUnits(ctx, units...); err != nil {
		return err
	}
	tops, err := filepath.Glob(filepath.Join(cgroupRoot, "*", podSlice))
	if err != nil {
		return fmt.Errorf("look for slices: %w", err)
	}
	tops = append(tops, filepath.Join(cgroupRoot, podSlice))
	for _, top := range tops {
		removeEmpty(top, isPods)
	}
	if slices.ContainsFunc(tops, holdsPods) {
		return nil // another's
	}
	if err := systemd.StopUnits(ctx, "kubepods-besteffort.slice", "kubepods-burstable.slice", podSlice); err != nil {
		return err
	}
	for _, top := range tops {
		removeEmpty(top, func(string) bool { return true })
	}
	return nil
}

const podSlice = "kubepods.slice"

// isPods tells a pod's slice, and what is in it, from those above it.
func isPods(name string) bool {
	return strings.Contains(name, "-pod") || strings.HasSuffix(name, ".scope")
}

// holdsPods reports whether there is a pod's slice below the one of all pods.
func holdsPods(top string) bool { return len(folders(top, isPods)) > 0 }

// removeEmpty removes cgroups in which nobody is, the deepest first. The kernel
// keeps the others.
func removeEmpty(top string, wanted func(name string) bool) {
	for _, d := range slices.Backward(folders(top, wanted)) {
		_ = os.Remove(d)
	}
}

// folders lists folders by their names, each before those in it.
func folders(top string, wanted func(name string) bool) []string {
	var out []string
	_ = filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && wanted(d.Name()) {
			out = append(out, p)
		}
		return nil // what is gone meanwhile is gone
	})
	return out
}
