package snapshot

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
)

func files() map[string]string {
	return map[string]string{Datastore: "etcd", "args/kubelet": "--v=1\n", "certs/serviceaccount.key": "secret", "node.json": "{}"}
}

func write(t *testing.T, w io.Writer, all map[string]string) *Manifest {
	t.Helper()
	m := &Manifest{Taken: time.Unix(1_700_000_000, 0).UTC(), Node: "n1", Why: "save"}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		f, err := Sum(File{Name: name, Mode: 0o600}, strings.NewReader(all[name]))
		if err != nil {
			t.Fatal(err)
		}
		m.Files = append(m.Files, f)
	}
	err := Write(w, m, func(name string) (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(all[name])), nil })
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// contents reads a whole snapshot.
func contents(r io.Reader) (map[string]string, error) {
	s, err := Parse(r)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	return out, s.Each(func(f File, r io.Reader) error {
		data, err := io.ReadAll(io.LimitReader(r, 1<<20))
		out[f.Name] = string(data)
		return err
	})
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	write(t, &b, files())
	got, err := contents(&b)
	if err != nil || !maps.Equal(got, files()) {
		t.Fatalf("%v, %v", got, err)
	}
}

func TestWhatIsCutOrChangedIsRefused(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	write(t, &b, files())
	for _, n := range []int{0, 1, 10, b.Len() / 2, b.Len() - 1} {
		if _, err := contents(bytes.NewReader(b.Bytes()[:n])); err == nil && n < b.Len()-8 {
			t.Errorf("the first %d of %d bytes are taken", n, b.Len())
		}
	}
}

// forged is an archive with a manifest and entries that need not agree.
func forged(t *testing.T, m any, entries ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	data, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	for i, h := range append([]tar.Header{{Name: manifestName, Typeflag: tar.TypeReg}}, entries...) {
		body := []byte("x")
		if i == 0 {
			body = data
		}
		if h.Typeflag != tar.TypeReg {
			body = nil
		}
		h.Size, h.Mode = int64(len(body)), 0o600
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(body); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestForgedSnapshotsAreRefused(t *testing.T) {
	t.Parallel()
	x, err := Sum(File{Name: "x", Mode: 0o600}, strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	named := func(name string) File {
		f := x
		f.Name = name
		return f
	}
	reg := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeReg} }
	m := func(files ...File) Manifest { return Manifest{Schema: Schema, Files: files} }
	big, wide, newer := x, x, m(x)
	big.Size, wide.Mode, newer.Schema = MaxFile+1, 0o4755, Schema+1
	for name, data := range map[string][]byte{
		"no files":         forged(t, m()),
		"above":            forged(t, m(named("../x")), reg("../x")),
		"absolute":         forged(t, m(named("/etc/x")), reg("/etc/x")),
		"in the middle":    forged(t, m(named("a/../x")), reg("a/../x")),
		"twice":            forged(t, m(x, x), reg("x"), reg("x")),
		"a link":           forged(t, m(x), tar.Header{Name: "x", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}),
		"another name":     forged(t, m(x), reg("y")),
		"another content":  forged(t, m(File{Name: "x", Size: 1, SHA256: strings.Repeat("0", 64)}), reg("x")),
		"one more":         forged(t, m(x), reg("x"), reg("y")),
		"one less":         forged(t, m(x)),
		"too large":        forged(t, m(big), reg("x")),
		"setuid":           forged(t, m(wide), reg("x")),
		"a newer schema":   forged(t, newer, reg("x")),
		"no manifest":      forged(t, "text", reg("x")),
		"the manifest's":   forged(t, m(named(manifestName)), reg(manifestName)),
		"not even an tar":  []byte("no snapshot"),
		"an empty archive": nil,
	} {
		if _, err := contents(bytes.NewReader(data)); err == nil {
			t.Errorf("%s: it is taken", name)
		}
	}
}

func TestEncrypted(t *testing.T) {
	t.Parallel()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	lock, err := ParseRecipients(id.Recipient().String())
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParseIdentities("# mine\n" + id.String() + "\n")
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w, err := Encrypt(&b, lock)
	if err != nil {
		t.Fatal(err)
	}
	write(t, w, files())
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Decrypt(bytes.NewReader(b.Bytes()), nil); !errors.Is(err, ErrEncrypted) {
		t.Errorf("without a key: %v", err)
	}
	_, other, err := Passphrase("other words")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Decrypt(bytes.NewReader(b.Bytes()), other); err == nil {
		t.Error("another key opens it")
	}
	plain, err := Decrypt(bytes.NewReader(b.Bytes()), key)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := contents(plain); err != nil || !maps.Equal(got, files()) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := ParseIdentities("AGE-SECRET-KEY-1SECRETSECRET"); err == nil || strings.Contains(err.Error(), "SECRETSECRET") {
		t.Errorf("a wrong identity: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_ = z.Close()
	f.Add(b.Bytes(), "age1x", "AGE-SECRET-KEY-1X")
	f.Add([]byte(magic+"v1\n-> X25519 x\n"), "# c", "")
	f.Fuzz(func(t *testing.T, data []byte, recipients, identities string) {
		_, _ = ParseRecipients(recipients)
		_, _ = ParseIdentities(identities)
		plain, err := Decrypt(bytes.NewReader(data), nil)
		if err != nil {
			return
		}
		s, err := Parse(plain)
		if err != nil {
			return
		}
		for _, f := range s.Manifest.Files {
			if strings.HasPrefix(f.Name, "/") || strings.Contains("/"+f.Name+"/", "/../") {
				t.Fatalf("%q is a name", f.Name)
			}
		}
		_ = s.Each(func(File, io.Reader) error { return nil })
	})
}
