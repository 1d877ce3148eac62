package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestSameSourcesGiveSameBytes(t *testing.T) {
	t.Parallel()
	first := build(t, tree(t, 0o700, time.Unix(1, 0)))
	second := build(t, tree(t, 0o755, time.Now()))
	if !bytes.Equal(first, second) {
		t.Fatal("times or permission bits of the sources show in the image")
	}
}

func TestImageIsWhatWasAskedFor(t *testing.T) {
	t.Parallel()
	layout := untar(t, bytes.NewReader(build(t, tree(t, 0o755, time.Now()))))
	var index v1.Index
	decode(t, layout["index.json"], &index)
	if got := index.Manifests[0].Annotations[nameAnnotation]; got != "mk.test/x:1" {
		t.Errorf("the name is %q", got)
	}
	var manifest v1.Manifest
	decode(t, blob(t, layout, index.Manifests[0]), &manifest)
	var image v1.Image
	decode(t, blob(t, layout, manifest.Config), &image)
	if image.Architecture != "amd64" || image.OS != "linux" || image.Config.User != "7:7" ||
		!slices.Equal(image.Config.Entrypoint, []string{"/bin/x", "-y"}) || image.Config.Labels["a"] != "b=c" {
		t.Errorf("the configuration is %+v", image)
	}
	unzipped, err := gzip.NewReader(bytes.NewReader(blob(t, layout, manifest.Layers[0])))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(unzipped)
	if err != nil {
		t.Fatal(err)
	}
	if image.RootFS.DiffIDs[0] != digest.FromBytes(plain) {
		t.Error("the diff id is not the digest of the layer's tar")
	}
	files := untar(t, bytes.NewReader(plain))
	if string(files["bin/x"]) != "program" || string(files["etc/sub/conf"]) != "text" {
		t.Errorf("the layer holds %q", files)
	}
}

func TestWrongInputIsRefusedAndChangesNothing(t *testing.T) {
	t.Parallel()
	source := tree(t, 0o755, time.Now())
	linked := t.TempDir()
	if err := os.Symlink("/etc/passwd", filepath.Join(linked, "link")); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"no name":        {"/x=" + source},
		"name, no tag":   {"-name", "mk.test/x", "/x=" + source},
		"name, no host":  {"-name", "x:1", "/x=" + source},
		"nothing in it":  {"-name", "mk.test/x:1"},
		"no such source": {"-name", "mk.test/x:1", "/x=" + source + "/missing"},
		"a link":         {"-name", "mk.test/x:1", "/x=" + linked},
		"twice":          {"-name", "mk.test/x:1", "/x=" + source, "/x=" + source},
		"bad variable":   {"-name", "mk.test/x:1", "-env", "A", "/x=" + source},
		"file as folder": {"-name", "mk.test/x:1", "/a=" + source + "/bin/x", "/a/b=" + source + "/bin/x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			output := filepath.Join(dir, "image.tar")
			if err := os.WriteFile(output, []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := command(t.Context(), append([]string{"-o", output}, args...), io.Discard); err == nil {
				t.Fatal("no error")
			}
			content, err := os.ReadFile(output)
			if err != nil || string(content) != "old" {
				t.Errorf("the old file is %q, %v", content, err)
			}
			if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
				t.Errorf("left behind: %v, %v", entries, err)
			}
		})
	}
}

func TestInterruptedWriteLeavesTheOldFile(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	output := filepath.Join(t.TempDir(), "image.tar")
	err := command(ctx, []string{"-o", output, "-name", "mk.test/x:1", "/=" + tree(t, 0o755, time.Now())}, io.Discard)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	if _, err := os.Stat(output); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is there: %v", err)
	}
}

func build(t *testing.T, source string) []byte {
	t.Helper()
	output := filepath.Join(t.TempDir(), "image.tar")
	args := []string{"-o", output, "-name", "mk.test/x:1", "-arch", "amd64", "-user", "7:7", "-entrypoint", "/bin/x",
		"-entrypoint", "-y", "-label", "a=b=c", "/=" + source}
	if err := command(t.Context(), args, io.Discard); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(output)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// tree makes bin/x, an executable, and etc/sub/conf.
func tree(t *testing.T, mode os.FileMode, modified time.Time) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{"bin/x": "program", "etc/sub/conf": "text"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		mode := mode
		if !strings.HasPrefix(name, "bin/") {
			mode &^= 0o111
		}
		err := errors.Join(os.WriteFile(path, []byte(content), 0o600), os.Chmod(path, mode), os.Chtimes(path, modified, modified))
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func untar(t *testing.T, r io.Reader) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	in := tar.NewReader(r)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if !h.ModTime.Equal(time.Unix(0, 0)) || h.Uid != 0 || h.Gid != 0 || h.Uname != "" {
			t.Errorf("%s shows this machine: %+v", h.Name, h)
		}
		want := int64(0o644)
		if h.Typeflag == tar.TypeDir || h.Name == "bin/x" {
			want = 0o755
		}
		if h.Mode != want {
			t.Errorf("%s has mode %o", h.Name, h.Mode)
		}
		content, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimSuffix(h.Name, "/")] = content
	}
}

func blob(t *testing.T, layout map[string][]byte, d v1.Descriptor) []byte {
	t.Helper()
	content := layout["blobs/sha256/"+d.Digest.Encoded()]
	if d.Digest != digest.FromBytes(content) || d.Size != int64(len(content)) {
		t.Fatalf("blob %s does not match its descriptor", d.Digest)
	}
	return content
}

func decode(t *testing.T, content []byte, to any) {
	t.Helper()
	if err := json.Unmarshal(content, to); err != nil {
		t.Fatal(err)
	}
}
