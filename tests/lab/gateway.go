package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

const adminAddr = "127.0.0.1:9180"

// Process is the gateway's process. It can be stopped, killed and started again
// while everything around it stays.
type Process struct {
	// Command is what is run, with Env as its environment; nil is the host's.
	Command, Env []string

	lab    *Lab
	cmd    *Cmd
	exited chan struct{} // closed once the process has ended
	err    error         // how, valid after exited
}

// Start runs the gateway and waits until /readyz says that it is in force.
func (p *Process) Start(ctx context.Context) error {
	if err := p.Launch(); err != nil {
		return err
	}
	if err := p.WaitReady(ctx); err != nil {
		p.Kill()
		return err
	}
	return nil
}

// Launch runs the gateway and does not wait for it.
func (p *Process) Launch() error {
	log, err := os.OpenFile(p.lab.Paths.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close() // the child has its own descriptor
	h := p.lab.Host(Gateway)
	p.cmd = h.Command(context.Background(), p.Command[0], p.Command[1:]...)
	if p.Env != nil {
		p.cmd.Env = p.Env
	}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("start the gateway: %w", err)
	}
	cmd, exited := p.cmd, make(chan struct{})
	p.exited = exited
	go func() {
		p.err = cmd.Wait()
		close(exited)
	}()
	return nil
}

// WaitReady asks /readyz until it answers 200; ctx bounds it.
func (p *Process) WaitReady(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	last := errors.New("not asked yet")
	for {
		select {
		case <-p.exited:
			return fmt.Errorf("the gateway ended (%v): %s", p.err, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("the gateway is not ready: %v: %s", last, p.tail())
		case <-tick.C:
		}
		if last = p.ready(ctx); last == nil {
			return nil
		}
	}
}

func (p *Process) ready(ctx context.Context) error {
	resp, err := p.Admin(ctx, "/readyz")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("/readyz answers %s", resp.Status)
	}
	return nil
}

// Admin asks the gateway's admin port, from the gateway itself.
func (p *Process) Admin(ctx context.Context, path string) (*http.Response, error) {
	h := p.lab.Host(Gateway)
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return h.Dial(ctx, network, addr)
		}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+adminAddr+path, nil)
	if err != nil {
		return nil, err
	}
	return client.Do(req)
}

// PID is the process id, 0 if the gateway does not run.
func (p *Process) PID() int {
	if p.cmd == nil || p.cmd.Process == nil {
		return 0
	}
	select {
	case <-p.exited:
		return 0
	default:
		return p.cmd.Process.Pid
	}
}

// Signal sends a signal to the gateway, such as SIGHUP to have it reload.
func (p *Process) Signal(sig syscall.Signal) error {
	if p.PID() == 0 {
		return errors.New("the gateway does not run")
	}
	return p.cmd.Process.Signal(sig)
}

// Kill ends the gateway at once, as a crash would, and waits for it to be gone.
func (p *Process) Kill() {
	if p.PID() == 0 {
		return
	}
	p.cmd.Process.Kill()
	<-p.exited
}

// Stop has the gateway drain and end; it fails if it ends otherwise than well.
func (p *Process) Stop(ctx context.Context) error {
	if p.PID() == 0 {
		return nil
	}
	if err := p.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.exited:
		var exit *exec.ExitError
		if errors.As(p.err, &exit) {
			return fmt.Errorf("the gateway ended with %v: %s", exit, p.tail())
		}
		return nil
	case <-ctx.Done():
		p.Kill()
		return fmt.Errorf("the gateway did not end on SIGTERM: %w", ctx.Err())
	}
}

// tail is the end of the gateway's log, for an error message.
func (p *Process) tail() string {
	data, err := os.ReadFile(p.lab.Paths.Log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return "its log ends:\n" + strings.Join(lines[max(0, len(lines)-8):], "\n")
}
