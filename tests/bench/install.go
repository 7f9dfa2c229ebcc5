package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// install gets the peers from Debian's packages, where they are missing.
func install(ctx context.Context) error {
	missing := missingPackages()
	if len(missing) == 0 {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("apt-get is not here: install these by other means: %s", strings.Join(missing, " "))
	}
	say("installing %s", strings.Join(missing, " "))
	for _, args := range [][]string{{"update", "-qq"}, append([]string{"install", "-y", "-qq", "--no-install-recommends"}, missing...)} {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		// RUNLEVEL keeps the packages from starting their services on this machine.
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("apt-get %s: %w: %s", args[0], err, lastLines(string(out), 5))
		}
	}
	if missing = missingPackages(); len(missing) > 0 {
		return fmt.Errorf("installed, but still not found: %s", strings.Join(missing, " "))
	}
	return nil
}

func missingPackages() (missing []string) {
	for _, p := range packages {
		if filepath.IsAbs(p.program) {
			if _, err := os.Stat(p.program); err == nil {
				continue
			}
		} else if _, err := exec.LookPath(p.program); err == nil {
			continue
		}
		missing = append(missing, p.pkg)
	}
	return missing
}

// build builds the gateway and the stock CoreDNS as the Makefile builds the gateway.
func build(ctx context.Context, dir, pkg string) (string, error) {
	out := filepath.Join(dir, filepath.Base(pkg))
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build %s: %w: %s", pkg, err, lastLines(string(text), 5))
	}
	return out, nil
}

// machine describes where the figures come from.
func machine(ctx context.Context) (m Machine, err error) {
	output := func(name string, args ...string) string {
		out, e := exec.CommandContext(ctx, name, args...).CombinedOutput()
		if e != nil && err == nil {
			err = fmt.Errorf("%s: %w", name, e)
		}
		return strings.TrimSpace(string(out))
	}
	m.Kernel, m.Go = output("uname", "-r"), strings.TrimPrefix(output("go", "env", "GOVERSION"), "go")
	m.Cores = output("nproc")
	for _, p := range packages[:len(packages)-1] { // nft is a tool, not a peer
		m.Peers = append(m.Peers, p.pkg+" "+output("dpkg-query", "-W", "-f", "${Version}", p.pkg))
	}
	m.Peers = append(m.Peers, "CoreDNS "+output("go", "list", "-m", "-f", "{{.Version}}", "github.com/coredns/coredns"))
	// Without a repository, or with changes, the figures belong to no commit.
	m.Commit = "unknown"
	if out, e := exec.CommandContext(ctx, "git", "rev-parse", "--short", "HEAD").Output(); e == nil {
		m.Commit = strings.TrimSpace(string(out))
	}
	data, e := os.ReadFile("/proc/meminfo")
	if e != nil {
		return m, e
	}
	var kb int
	if _, e := fmt.Sscanf(string(data), "MemTotal: %d kB", &kb); e != nil {
		return m, fmt.Errorf("/proc/meminfo: %w", e)
	}
	m.Memory = fmt.Sprintf("%d GiB", (kb+1<<19)>>20)
	return m, err
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
