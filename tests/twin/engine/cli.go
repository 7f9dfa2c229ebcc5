package engine

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// A CLI is the command-line program for who is not a test.
type CLI struct {
	home string
	env  []string
}

// NewCLI prepares the program with plugins, and with a backend in a folder. What is missing is
// built first.
func NewCLI(backend string, plugins ...Plugin) (*CLI, error) {
	dir, err := home(plugins)
	if err != nil {
		return nil, err
	}
	return &CLI{dir, append(environment(dir), "PULUMI_BACKEND_URL=file://"+backend)}, nil
}

// Setenv adds to the environment of the engine, and so of its plugins and programs.
func (c *CLI) Setenv(all ...string) {
	for _, kv := range all {
		name, _, _ := strings.Cut(kv, "=")
		c.env = slices.DeleteFunc(c.env, func(have string) bool { n, _, _ := strings.Cut(have, "="); return strings.EqualFold(n, name) })
		c.env = append(c.env, kv)
	}
}

// Command runs the program in a directory.
func (c *CLI) Command(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(c.home, "bin", "pulumi"), args...)
	cmd.Dir, cmd.Env = dir, c.env
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // the engine writes down what it did
	return cmd
}
