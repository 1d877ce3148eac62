package dist

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestArchive packs the same files twice: in another folder, at another time,
// with other modes and owners' habits. The archives are the same, byte for byte.
func TestArchive(t *testing.T) {
	t.Parallel()
	first := pack(t, "022", 0o755, 0o644, time.Unix(1e9, 0))
	second := pack(t, "077", 0o700, 0o600, time.Unix(1.1e9, 0))
	if !bytes.Equal(first, second) {
		t.Errorf("%d and %d bytes differ", len(first), len(second))
	}
	z, err := gzip.NewReader(bytes.NewReader(first))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for tr := tar.NewReader(z); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		_, name, _ := strings.Cut(h.Name, "/")
		found[name] = true
		if program := strings.Contains(name, "bin/") || name == "install"; h.Mode&0o444 != 0o444 || h.Mode&0o022 != 0 || program && h.Mode&0o111 != 0o111 {
			t.Errorf("%s has the mode %o", name, h.Mode)
		}
		if h.Uid != 0 || h.Gid != 0 {
			t.Errorf("%s is of %d:%d", name, h.Uid, h.Gid)
		}
	}
	for _, want := range []string{
		"bin/mk", "plugins/certs-local/bin/local", "plugins/certs-local/plugin.yaml", "images/pause.tar", "install", "README.md",
		"completions/mk.bash", "completions/mk.zsh", "completions/mk.fish", "parts.txt", "SHA256SUMS",
		"units/control-plane/mk-kubelite.service", "units/control-plane/mk-etcd.service", "units/worker/mk-apiserver-proxy.service",
	} {
		if !found[want] {
			t.Errorf("%s is not in the archive", want)
		}
	}
}

// pack makes an archive of small stand-ins for what is built.
func pack(t *testing.T, umask string, program, plain os.FileMode, at time.Time) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	for name, text := range map[string]string{
		"bin/mk": "#!/bin/sh\necho \"$@\"\n", "plugins/certs-local/bin/local": "x", "plugins/certs-local/plugin.yaml": "y",
		"images/pause.tar": "z", "parts.txt": "parts\n",
	} {
		mode, path := plain, filepath.Join(out, name)
		if strings.Contains(name, "bin/") {
			mode = program
		}
		err := errors.Join(os.MkdirAll(filepath.Dir(path), program), os.WriteFile(path, []byte(text), mode), os.Chtimes(path, at, at))
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "umask "+umask+"; exec make -s -C ../.. archive OUT="+out+" VERSION=1.2.3")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	data, err := os.ReadFile(filepath.Join(out, "mk-1.2.3-linux-amd64.tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}
