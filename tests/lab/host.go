package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Host is one machine of the lab: a network namespace, with its own resolv.conf
// and hosts file in a mount namespace.
type Host struct {
	Name string
	// Addr is the address that the host speaks from.
	Addr netip.Addr

	dir    string // where its files are
	env    []string
	ns     netns.NsHandle
	nl     *netlink.Handle
	jobs   chan func()
	closed chan struct{}
	once   sync.Once

	mu      sync.Mutex
	closers []func() error
}

var errHostDown = errors.New("the host is down")

// newHost creates the namespaces. The thread that holds them also starts
// the host's processes, so that these die with it.
func newHost(name, dir string) (*Host, error) {
	h := &Host{Name: name, dir: filepath.Join(dir, name), ns: netns.None(), jobs: make(chan func()), closed: make(chan struct{})}
	if err := os.MkdirAll(h.dir, 0o755); err != nil {
		return nil, err
	}
	ready := make(chan error)
	go h.hold(ready)
	if err := <-ready; err != nil {
		return nil, fmt.Errorf("host %s: %w", name, err)
	}
	var err error
	if h.nl, err = netlink.NewHandleAt(h.ns); err != nil {
		h.Close()
		return nil, fmt.Errorf("host %s: netlink: %w", name, err)
	}
	if err := h.linkUp("lo"); err != nil {
		h.Close()
		return nil, err
	}
	return h, nil
}

func (h *Host) hold(ready chan<- error) {
	runtime.LockOSThread() // never unlocked: the thread dies with its namespaces
	err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS)
	if err == nil {
		err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	}
	if err == nil {
		h.ns, err = netns.Get()
	}
	ready <- err
	if err != nil {
		return
	}
	for {
		select {
		case job := <-h.jobs:
			job()
		case <-h.closed:
			return
		}
	}
}

// onHolder runs fn on the thread that holds the host's network and mount namespaces.
func (h *Host) onHolder(fn func() error) error {
	done := make(chan error, 1)
	select {
	case h.jobs <- func() { done <- fn() }:
		return <-done
	case <-h.closed:
		return errHostDown
	}
}

// Do runs fn on a thread of its own inside the host's network namespace. Sockets
// that fn opens belong to the host for good, whoever uses them later;
// goroutines that fn starts are not in the namespace.
func (h *Host) Do(fn func() error) error {
	select {
	case <-h.closed:
		return errHostDown
	default:
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: a thread inside is of no use outside
		if err := netns.Set(h.ns); err != nil {
			done <- fmt.Errorf("host %s: %w", h.Name, err)
			return
		}
		done <- fn()
	}()
	return <-done
}

// Dial connects from the host. addr is an address and port, never a name.
func (h *Host) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return h.DialFrom(ctx, network, netip.AddrPort{}, addr)
}

// DialFrom connects from a given local address, or port, of the host.
func (h *Host) DialFrom(ctx context.Context, network string, from netip.AddrPort, addr string) (net.Conn, error) {
	if _, err := netip.ParseAddrPort(addr); err != nil {
		return nil, fmt.Errorf("dial from %s: %w", h.Name, err)
	}
	var d net.Dialer
	if from.IsValid() {
		if d.LocalAddr = net.TCPAddrFromAddrPort(from); network[0] == 'u' {
			d.LocalAddr = net.UDPAddrFromAddrPort(from)
		}
	}
	var conn net.Conn
	err := h.Do(func() (err error) {
		conn, err = d.DialContext(ctx, network, addr)
		return err
	})
	return conn, err
}

// Listen opens a listening TCP socket on the host; it is closed with the host.
func (h *Host) Listen(addr string) (net.Listener, error) {
	var l net.Listener
	err := h.Do(func() (err error) {
		l, err = net.Listen("tcp", addr)
		return err
	})
	if err != nil {
		return nil, err
	}
	h.onClose(l.Close)
	return l, nil
}

// ListenPacket opens a UDP socket on the host; it is closed with the host.
func (h *Host) ListenPacket(addr string) (net.PacketConn, error) {
	var c net.PacketConn
	err := h.Do(func() (err error) {
		c, err = net.ListenPacket("udp", addr)
		return err
	})
	if err != nil {
		return nil, err
	}
	h.onClose(c.Close)
	return c, nil
}

// Sysctl sets a kernel parameter of the host's network namespace; key is in
// slashes, such as net/ipv4/ip_forward.
func (h *Host) Sysctl(key, value string) error {
	return h.Do(func() error {
		if err := os.WriteFile("/proc/sys/"+key, []byte(value), 0); err != nil {
			return fmt.Errorf("host %s: %w", h.Name, err)
		}
		return nil
	})
}

// writeEtc lays a file of the host's own over one in /etc.
func (h *Host) writeEtc(name, content string) error {
	file := filepath.Join(h.dir, name)
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		return err
	}
	target, err := filepath.EvalSymlinks(filepath.Join("/etc", name))
	if err != nil {
		return fmt.Errorf("host %s: the lab lays its own file over /etc/%s, which must exist: %w", h.Name, name, err)
	}
	return h.onHolder(func() error {
		if err := unix.Mount(file, target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("host %s: bind mount over %s: %w", h.Name, target, err)
		}
		return nil
	})
}

// onClose registers what ends with the host.
func (h *Host) onClose(fn func() error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closers = append(h.closers, fn)
}

// Close ends the host: its servers, its processes, its namespaces.
func (h *Host) Close() {
	h.once.Do(func() {
		h.mu.Lock()
		closers := h.closers
		h.closers = nil
		h.mu.Unlock()
		for i := len(closers) - 1; i >= 0; i-- {
			closers[i]() // best effort: the kernel closes the rest
		}
		if h.nl != nil {
			h.nl.Close()
		}
		close(h.closed)
		if h.ns.IsOpen() {
			h.ns.Close()
		}
	})
}
