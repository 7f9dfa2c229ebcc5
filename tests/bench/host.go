package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// host is a network namespace that one locked thread of this process holds.
type host struct {
	name string
	ns   netns.NsHandle
	nl   *netlink.Handle
	jobs chan func()
}

func newHost(name string) (*host, error) {
	h := &host{name: name, jobs: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the namespace lives and dies with this thread
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			h.ns, err = netns.Get()
		}
		ready <- err
		for job := range h.jobs {
			job()
		}
	}()
	if err := <-ready; err != nil {
		return nil, fmt.Errorf("namespace of %s (run as root): %w", name, err)
	}
	var err error
	if h.nl, err = netlink.NewHandleAt(h.ns); err != nil {
		return nil, fmt.Errorf("netlink of %s: %w", name, err)
	}
	if err := h.up("lo"); err != nil {
		return nil, err
	}
	for key, value := range map[string]string{
		"ipv4/conf/all/rp_filter":      "0", // addresses that are local by a route only would be martians
		"ipv4/conf/default/rp_filter":  "0",
		"ipv4/tcp_tw_reuse":            "1", // a connection a few hundred microseconds long would use up the ports
		"ipv4/ip_local_port_range":     "2000 65000",
		"ipv4/tcp_congestion_control":  "reno", // the kernel's default here is bbr, whose pacing timers measure themselves
		"core/somaxconn":               "16384",
		"ipv4/tcp_max_syn_backlog":     "16384",
		"ipv4/conf/all/send_redirects": "0",
	} {
		if err := h.sysctl(key, value); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// do runs fn on the thread that holds the namespace. A process that fn starts is there,
// and so is a socket that it opens.
func (h *host) do(fn func() error) error {
	done := make(chan error, 1)
	h.jobs <- func() { done <- fn() }
	return <-done
}

func (h *host) sysctl(key, value string) error {
	return h.do(func() error {
		if err := os.WriteFile("/proc/sys/net/"+key, []byte(value), 0); err != nil {
			return fmt.Errorf("%s: %w", h.name, err)
		}
		return nil
	})
}

func (h *host) up(dev string) error {
	link, err := h.nl.LinkByName(dev)
	if err != nil {
		return fmt.Errorf("%s: %s: %w", h.name, dev, err)
	}
	return h.nl.LinkSetUp(link)
}

// connect lays a cable and gives both ends an address.
func connect(a *host, dev string, addr netip.Prefix, b *host, peer string, peerAddr netip.Prefix) error {
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: dev, MTU: 1500}, PeerName: peer, PeerNamespace: netlink.NsFd(int(b.ns)), PeerMTU: 1500}
	if err := a.nl.LinkAdd(veth); err != nil {
		return fmt.Errorf("cable %s:%s to %s:%s: %w", a.name, dev, b.name, peer, err)
	}
	for _, end := range []struct {
		h    *host
		dev  string
		addr netip.Prefix
	}{{a, dev, addr}, {b, peer, peerAddr}} {
		if err := end.h.address(end.dev, end.addr); err != nil {
			return err
		}
		if err := end.h.up(end.dev); err != nil {
			return err
		}
	}
	return nil
}

func (h *host) address(dev string, p netip.Prefix) error {
	link, err := h.nl.LinkByName(dev)
	if err != nil {
		return err
	}
	if err := h.nl.AddrAdd(link, &netlink.Addr{IPNet: ipNet(p)}); err != nil {
		return fmt.Errorf("%s: address %s on %s: %w", h.name, p, dev, err)
	}
	return nil
}

// route sends p by way of an address on one of the host's links.
func (h *host) route(p netip.Prefix, via netip.Addr) error {
	if err := h.nl.RouteReplace(&netlink.Route{Dst: ipNet(p), Gw: via.AsSlice()}); err != nil {
		return fmt.Errorf("%s: route %s via %s: %w", h.name, p, via, err)
	}
	return nil
}

// own makes all of p local, without as many addresses; in a table of its own that only
// packets with a mark look up, or in the table of local addresses.
func (h *host) own(p netip.Prefix, table int) error {
	lo, err := h.nl.LinkByName("lo")
	if err != nil {
		return err
	}
	r := &netlink.Route{LinkIndex: lo.Attrs().Index, Dst: ipNet(p), Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST, Table: table}
	if err := h.nl.RouteAdd(r); err != nil {
		return fmt.Errorf("%s: local %s: %w", h.name, p, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// command prepares a program that runs on the host and dies with this process.
func (h *host) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// run runs a program to its end.
func (h *host) run(stdin, name string, args ...string) error {
	cmd := h.command(name, args...)
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &out
	if err := h.do(cmd.Start); err != nil {
		return err
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%s on %s: %w: %s", name, h.name, err, bytes.TrimSpace(out.Bytes()))
	}
	return nil
}

// program is something that runs until it is stopped.
type program struct {
	cmd    *exec.Cmd
	log    string
	exited chan struct{}
}

// start runs a program and writes what it says to a file.
func (h *host) start(log, name string, args ...string) (*program, error) {
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer f.Close() // the child has its own descriptor
	p := &program{cmd: h.command(name, args...), log: log, exited: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = f, f
	if err := h.do(p.cmd.Start); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	go func() {
		p.cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

func (p *program) pid() int { return p.cmd.Process.Pid }

// stop has a program end, and kills it and what it started where it does not.
func (p *program) stop(ctx context.Context) error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.exited:
		return nil
	case <-ctx.Done():
	}
	syscall.Kill(-p.pid(), syscall.SIGKILL)
	<-p.exited
	return ctx.Err()
}

// tail is the end of what a program said.
func (p *program) tail() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-12):], "\n")
}
