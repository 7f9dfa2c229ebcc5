package engine

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Version of the engine, as tools/go.mod pins it.
const Version = "v3.259.0"

// The programs of Pulumi's that are built from their modules.
var programs = map[string]string{
	"pulumi":               "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi",
	"pulumi-language-yaml": "github.com/pulumi/pulumi-yaml/cmd/pulumi-language-yaml",
}

// root is the repository's directory.
var root = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", err
	}
	return filepath.Dir(strings.TrimSpace(string(out))), nil
})

// Root is the repository's directory.
func Root() string {
	dir, err := root()
	if err != nil {
		panic(err)
	}
	return dir
}

// Tools builds the engine if it is not in the cache yet, and returns the directory that it
// is in. The first time takes about eight minutes on two cores; progress goes to standard
// error. The cache is keyed by what pins the versions, so that an upgrade builds anew.
func Tools() (string, error) {
	source := filepath.Join(Root(), "tests", "twin", "engine", "tools")
	sums, err := os.ReadFile(filepath.Join(source, "go.sum"))
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	hash := sha256.Sum256(sums)
	dir := filepath.Join(cache, "bulkhead", "engine-"+hex.EncodeToString(hash[:6]))
	return dir, locked(dir, func() error {
		for name, pkg := range programs {
			if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
				continue
			}
			ldflags := "-s -w"
			if name == "pulumi" { // the Automation API asks for the version
				ldflags += " -X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version=" + Version
			}
			if err := build(source, filepath.Join(dir, name), pkg, ldflags); err != nil {
				return err
			}
		}
		return nil
	})
}

// Program builds a main package of this repository into bin/twin and returns its path. If
// it is there and up to date, that takes a second.
func Program(pkg string) (string, error) {
	dir := filepath.Join(Root(), "bin", "twin")
	out := filepath.Join(dir, filepath.Base(pkg))
	return out, locked(dir, func() error { return build(Root(), out, pkg, "-s -w") })
}

// build compiles one program, and says every half minute that it still does.
func build(dir, out, pkg, ldflags string) error {
	var output bytes.Buffer
	cmd := exec.Command("go", "build", "-ldflags", ldflags, "-o", out, pkg)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &output, &output
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	start := time.Now()
	ticker := time.NewTicker(30 * time.Second)
	defer ticker.Stop()
	done := make(chan error, 1)
	go func() { done <- cmd.Run() }()
	for {
		select {
		case err := <-done:
			if err != nil {
				return fmt.Errorf("building %s: %w\n%s", pkg, err, &output)
			}
			return nil
		case <-ticker.C:
			fmt.Fprintf(os.Stderr, "still building %s, since %s; the first time takes minutes\n", pkg, time.Since(start).Round(time.Second))
		}
	}
}

// locked holds a directory, which it makes, against other processes that build into it.
func locked(dir string, f func() error) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer lock.Close() // and with it the lock
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	return f()
}
