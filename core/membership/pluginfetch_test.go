package membership

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"mk8s.io/mk/core/node"
)

func archive(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		content := []byte("x")
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(content))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write(content); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func emptyRoot(t testing.TB) *node.Root {
	t.Helper()
	r, err := node.Create(filepath.Join(t.TempDir(), "mk"), node.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func TestAPluginFromAPeerStaysInItsFolder(t *testing.T) {
	t.Parallel()
	file := func(name string, mode int64) tar.Header {
		return tar.Header{Name: name, Mode: mode, Typeflag: tar.TypeReg}
	}
	r := emptyRoot(t)
	if err := unpackPlugin(r, archive(t, tar.Header{Name: "bin/", Typeflag: tar.TypeDir, Mode: 0o7777}, file("bin/x", 0o6755), file("plugin.yaml", 0o666))); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"bin/x": 0o755, "plugin.yaml": 0o644} {
		info, err := os.Stat(r.Path(fetchFolder, name))
		if err != nil || info.Mode() != mode {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
	for name, h := range map[string]tar.Header{
		"above":     file("../x", 0o644),
		"absolute":  file("/etc/x", 0o644),
		"in a turn": file("a/../../x", 0o644),
		"a link":    {Name: "x", Linkname: "/etc/passwd", Typeflag: tar.TypeSymlink},
		"hard link": {Name: "x", Linkname: "plugin.yaml", Typeflag: tar.TypeLink},
		"a device":  {Name: "x", Typeflag: tar.TypeChar},
	} {
		if err := unpackPlugin(emptyRoot(t), archive(t, h)); err == nil {
			t.Errorf("%s is unpacked", name)
		}
	}
	if err := unpackPlugin(r, archive(t, file("x", 0o644))[:300]); err == nil {
		t.Error("an archive that was cut off is unpacked")
	}
}

func FuzzUnpackPlugin(f *testing.F) {
	f.Add(archive(f, tar.Header{Name: "bin/x", Mode: 0o755, Typeflag: tar.TypeReg}))
	r := emptyRoot(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := unpackPlugin(r, data); err != nil {
			return
		}
		err := filepath.WalkDir(r.Path(fetchFolder), func(path string, e os.DirEntry, err error) error {
			if err == nil && !e.IsDir() && !e.Type().IsRegular() {
				t.Errorf("%s is no file", path)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}
