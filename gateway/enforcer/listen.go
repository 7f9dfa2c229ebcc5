package enforcer

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// Conn is an accepted connection with the two ends that the agent believes in.
// The connection is a bare TCP socket, for anything around it would keep the kernel
// from splicing.
type Conn struct {
	*net.TCPConn
	Src, Dst netip.AddrPort
}

// Listener accepts intercepted connections.
type Listener interface {
	Accept() (Conn, error)
	Close() error
}

// Listen opens the TPROXY listener: a transparent socket, whose connections keep
// the original destination as their local address (kernel documentation,
// networking/tproxy). Its sockets carry mark, so that the output chain lets
// answers to agents out. What is set on it, each accepted socket inherits, for free.
// It needs CAP_NET_ADMIN.
func Listen(ctx context.Context, addr netip.AddrPort, mark uint32) (Listener, error) {
	lc := net.ListenConfig{
		KeepAlive: -1, // inherited, not set again
		Control: func(_, _ string, c syscall.RawConn) error {
			return control(c, func(fd int) error {
				if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT, 1); err != nil {
					return fmt.Errorf("IP_TRANSPARENT: %w", err)
				}
				patience(fd)
				return setMark(fd, mark)
			})
		},
	}
	lc.SetMultipathTCP(false) // splice and TPROXY are about plain TCP sockets
	ln, err := lc.Listen(ctx, "tcp4", addr.String())
	if err != nil {
		return nil, fmt.Errorf("transparent listener on %s (needs CAP_NET_ADMIN): %w", addr, err)
	}
	return tproxyListener{ln.(*net.TCPListener)}, nil
}

type tproxyListener struct{ *net.TCPListener }

func (l tproxyListener) Accept() (Conn, error) {
	c, err := l.AcceptTCP()
	if err != nil {
		return Conn{}, err
	}
	return Conn{TCPConn: c, Src: addrPort(c.RemoteAddr()), Dst: addrPort(c.LocalAddr())}, nil
}

func addrPort(a net.Addr) netip.AddrPort {
	ap := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// control runs f on the socket below c.
func control(c syscall.RawConn, f func(fd int) error) error {
	var err error
	if cerr := c.Control(func(fd uintptr) { err = f(int(fd)) }); cerr != nil {
		return cerr
	}
	return err
}

func setMark(fd int, mark uint32) error {
	if mark == 0 {
		return nil
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(mark)); err != nil {
		return fmt.Errorf("SO_MARK: %w", err)
	}
	return nil
}
