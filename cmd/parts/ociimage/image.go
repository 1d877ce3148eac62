package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// nameAnnotation is where containerd looks for an image's full name in an OCI layout.
const nameAnnotation = "io.containerd.image.name"

// Spec is what an image says about itself. Name and Arch are required.
type Spec struct {
	Name, Arch       string
	User, WorkingDir string
	Entrypoint, Cmd  []string
	Env              []string
	Labels           map[string]string
}

// check reports every fault at once.
func (s Spec) check() error {
	var errs []error
	host, rest, _ := strings.Cut(s.Name, "/")
	if !strings.ContainsAny(host, ".:") || !strings.Contains(rest, ":") {
		errs = append(errs, fmt.Errorf("the name %q is not HOST/PATH:TAG", s.Name))
	}
	if s.Arch == "" {
		errs = append(errs, errors.New("the architecture is missing"))
	}
	for _, e := range s.Env {
		if k, _, ok := strings.Cut(e, "="); !ok || k == "" {
			errs = append(errs, fmt.Errorf("the variable %q is not KEY=VALUE", e))
		}
	}
	return errors.Join(errs...)
}

// Write writes the image as an OCI-layout tar. The bytes depend on spec, on the files' names, contents and
// executable bits, and on Go's gzip; on nothing else. An error may leave a part of the tar in w.
func Write(ctx context.Context, w io.Writer, spec Spec, files map[string]file) error {
	if err := spec.check(); err != nil {
		return err
	}
	layer, diffID, err := layer(ctx, files)
	if err != nil {
		return err
	}
	created := time.Unix(0, 0).UTC()
	config, err := json.Marshal(v1.Image{
		Created:  &created,
		Platform: v1.Platform{Architecture: spec.Arch, OS: "linux"},
		Config: v1.ImageConfig{
			User: spec.User, Env: spec.Env, Entrypoint: spec.Entrypoint, Cmd: spec.Cmd,
			WorkingDir: spec.WorkingDir, Labels: spec.Labels,
		},
		RootFS:  v1.RootFS{Type: "layers", DiffIDs: []digest.Digest{diffID}},
		History: []v1.History{{Created: &created, CreatedBy: "ociimage"}},
	})
	if err != nil {
		return fmt.Errorf("encoding the configuration: %w", err)
	}
	manifest, err := json.Marshal(v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: v1.MediaTypeImageManifest,
		Config:    descriptor(v1.MediaTypeImageConfig, config),
		Layers:    []v1.Descriptor{descriptor(v1.MediaTypeImageLayerGzip, layer)},
	})
	if err != nil {
		return fmt.Errorf("encoding the manifest: %w", err)
	}
	return writeLayout(w, spec, manifest, config, layer)
}

func descriptor(mediaType string, content []byte) v1.Descriptor {
	return v1.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(content), Size: int64(len(content))}
}

// writeLayout writes the tar around the image's three blobs.
func writeLayout(w io.Writer, spec Spec, manifest, config, layer []byte) error {
	entry := descriptor(v1.MediaTypeImageManifest, manifest)
	entry.Platform = &v1.Platform{Architecture: spec.Arch, OS: "linux"}
	tag := spec.Name[strings.LastIndex(spec.Name, ":")+1:]
	entry.Annotations = map[string]string{nameAnnotation: spec.Name, v1.AnnotationRefName: tag}
	index, err := json.Marshal(v1.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: v1.MediaTypeImageIndex,
		Manifests: []v1.Descriptor{entry},
	})
	if err != nil {
		return fmt.Errorf("encoding the index: %w", err)
	}
	layout, err := json.Marshal(v1.ImageLayout{Version: v1.ImageLayoutVersion})
	if err != nil {
		return fmt.Errorf("encoding the layout: %w", err)
	}
	content := map[string][]byte{v1.ImageLayoutFile: layout, v1.ImageIndexFile: index}
	for _, blob := range [][]byte{manifest, config, layer} {
		content[v1.ImageBlobsDir+"/sha256/"+digest.FromBytes(blob).Encoded()] = blob
	}
	out := tar.NewWriter(w)
	for _, dir := range []string{v1.ImageBlobsDir, v1.ImageBlobsDir + "/sha256"} {
		if err := out.WriteHeader(header(dir, tar.TypeDir, 0, true)); err != nil {
			return fmt.Errorf("writing %s: %w", dir, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(content)) {
		if err := out.WriteHeader(header(name, tar.TypeReg, int64(len(content[name])), false)); err != nil {
			return fmt.Errorf("writing %s: %w", name, err)
		}
		if _, err := out.Write(content[name]); err != nil {
			return fmt.Errorf("writing %s: %w", name, err)
		}
	}
	return out.Close()
}

// layer returns the gzipped tar of files and the digest of the tar within it.
func layer(ctx context.Context, files map[string]file) ([]byte, digest.Digest, error) {
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	plain := sha256.New()
	out := tar.NewWriter(io.MultiWriter(zip, plain))
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := ctx.Err(); err != nil {
			return nil, "", err
		}
		if err := writeFile(out, name, files[name]); err != nil {
			return nil, "", fmt.Errorf("packing %s: %w", name, err)
		}
	}
	if err := errors.Join(out.Close(), zip.Close()); err != nil {
		return nil, "", fmt.Errorf("packing the layer: %w", err)
	}
	return packed.Bytes(), digest.NewDigest(digest.SHA256, plain), nil
}

func writeFile(out *tar.Writer, name string, f file) error {
	if f.source == "" {
		return out.WriteHeader(header(name, tar.TypeDir, 0, true))
	}
	in, err := os.Open(f.source)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if err := out.WriteHeader(header(name, tar.TypeReg, info.Size(), f.exec)); err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return err
}

// header has nothing of this machine in it: owner 0:0, no names, the epoch.
func header(name string, kind byte, size int64, exec bool) *tar.Header {
	mode := int64(0o644)
	if exec {
		mode = 0o755
	}
	if kind == tar.TypeDir {
		name += "/"
	}
	return &tar.Header{Typeflag: kind, Name: name, Size: size, Mode: mode, ModTime: time.Unix(0, 0)}
}
