package main

import (
	"archive/tar"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// TestImage reads what was written as a registry's client does: a whole image of one file, that runs it as nobody,
// and the same one from the same program.
func TestImage(t *testing.T) {
	dir := t.TempDir()
	binary, out := filepath.Join(dir, "bulkhead"), filepath.Join(dir, "image.tar")
	if err := os.WriteFile(binary, []byte("the program"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := run(binary, out, "bulkhead:1"); err != nil {
		t.Fatal(err)
	}
	image, err := tarball.ImageFromPath(out, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(image); err != nil {
		t.Error(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if c := config.Config; config.Architecture != "amd64" || config.OS != "linux" || c.User != nobody || !slices.Equal(c.Entrypoint, []string{"bulkhead"}) ||
		!slices.Equal(c.Env, []string{"PATH=/usr/bin"}) || !config.Created.IsZero() {
		t.Errorf("%+v", config)
	}
	layers, err := image.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatal(len(layers), err)
	}
	files, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	r := tar.NewReader(files)
	header, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(r)
	if err != nil || string(content) != "the program" || header.Name != "usr/bin/bulkhead" || header.Mode != 0o755 {
		t.Errorf("%q of %+v: %v", content, header, err)
	}
	if extra, err := r.Next(); err != io.EOF {
		t.Errorf("%+v is in it, too: %v", extra, err)
	}
	again, err := build([]byte("the program"))
	if err != nil {
		t.Fatal(err)
	}
	first, _ := image.Digest()
	if second, _ := again.Digest(); first != second {
		t.Errorf("%s, and once more %s", first, second)
	}
	if err := run(filepath.Join(dir, "none"), out, "bulkhead:1"); err == nil {
		t.Error("an image of no program")
	}
}
