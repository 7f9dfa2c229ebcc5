package lab

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"
)

// Cmd is an exec.Cmd that runs on a host. Its methods shadow those of exec.Cmd that
// would start the process elsewhere.
type Cmd struct {
	*exec.Cmd
	host *Host
}

// Command prepares a program to be run on the host, with the host's resolver and
// with the lab's certificate authority among those it trusts. The program is
// killed when ctx ends, when the host goes down and when this process ends.
func (h *Host) Command(ctx context.Context, name string, args ...string) *Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), h.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // a grandchild that holds the pipes must not hold us
	return &Cmd{Cmd: cmd, host: h}
}

// Start starts the program in the host's namespaces.
func (c *Cmd) Start() error { return c.host.onHolder(c.Cmd.Start) }

// Run starts the program and waits for it.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// Output runs the program and returns what it wrote to standard output.
func (c *Cmd) Output() ([]byte, error) {
	var out, errOut bytes.Buffer
	c.Stdout = &out
	if c.Stderr == nil {
		c.Stderr = &errOut
	}
	err := c.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		exit.Stderr = errOut.Bytes()
	}
	return out.Bytes(), err
}

// CombinedOutput runs the program and returns all that it wrote.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return out.Bytes(), err
}

// Env is what a program's environment needs on this host beside its own: where the
// certificates are that it should trust, and the host's name.
func (h *Host) Env() []string { return slices.Clone(h.env) }
