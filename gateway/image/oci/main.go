// Command oci writes an image of the gateway's program for the canary's job: one layer with the static binary in it, and
// nothing else. Equal binaries give equal images, because nothing in it is of now.
//
// It is a module of its own, so that the gateway does not depend on what only builds images.
package main

import (
	"archive/tar"
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func main() {
	binary := flag.String("binary", "", "the static program")
	out := flag.String("out", "", "the archive to write")
	tag := flag.String("tag", "bulkhead:dev", "the image's name in the archive")
	flag.Parse()
	if err := run(*binary, *out, *tag); err != nil {
		fmt.Fprintln(os.Stderr, "oci:", err)
		os.Exit(1)
	}
}

func run(binary, out, tag string) error {
	program, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	ref, err := name.NewTag(tag)
	if err != nil {
		return err
	}
	image, err := build(program)
	if err != nil {
		return err
	}
	if err := tarball.WriteToFile(out, ref, image); err != nil {
		return err
	}
	digest, err := image.Digest()
	if err != nil {
		return err
	}
	fmt.Println(digest)
	return nil
}

// nobody is the user that the program runs as; a probe needs no rights.
const nobody = "65532:65532"

func build(program []byte) (v1.Image, error) {
	var files bytes.Buffer
	w := tar.NewWriter(&files)
	if err := w.WriteHeader(&tar.Header{Name: "usr/bin/bulkhead", Mode: 0o755, Size: int64(len(program)), ModTime: time.Unix(0, 0)}); err != nil {
		return nil, err
	}
	if _, err := w.Write(program); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(files.Bytes())), nil })
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.Architecture, config.OS = "amd64", "linux"
	config.Config = v1.Config{Env: []string{"PATH=/usr/bin"}, Entrypoint: []string{"bulkhead"}, User: nobody}
	return mutate.ConfigFile(image, config)
}
