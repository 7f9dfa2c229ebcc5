package lab

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// servePostgres speaks as much of the PostgreSQL protocol as a client needs to
// know that it has found a database: it declines TLS and asks for a password.
// Message formats: PostgreSQL documentation, "Message Formats", protocol 3.0.
func (s *Website) servePostgres(h *Host, port string) error {
	return s.serveTCP(h, port, func(conn net.Conn) []byte {
		for range 2 {
			var head [8]byte // length, then protocol version or request code
			if _, err := io.ReadFull(conn, head[:]); err != nil {
				return nil
			}
			length, code := binary.BigEndian.Uint32(head[:4]), binary.BigEndian.Uint32(head[4:])
			if length < 8 || length > maxBody {
				return nil
			}
			rest := make([]byte, length-8)
			if _, err := io.ReadFull(conn, rest); err != nil {
				return nil
			}
			const sslRequest = 80877103
			if code == sslRequest {
				conn.Write([]byte{'N'})
				continue
			}
			conn.Write([]byte{'R', 0, 0, 0, 8, 0, 0, 0, 3}) // AuthenticationCleartextPassword
			return rest
		}
		return nil
	})
}

// serveGreeting takes what comes first and answers "owned", as an attacker's
// listener does.
func (s *Website) serveGreeting(h *Host, port string) error {
	return s.serveTCP(h, port, func(conn net.Conn) []byte {
		buf := make([]byte, 4096)
		n, _ := conn.Read(buf)
		io.WriteString(conn, "owned\n")
		return buf[:n]
	})
}

// serveTCP notes a visit for each connection, with what talk says it has read.
func (s *Website) serveTCP(h *Host, port string, talk func(net.Conn) []byte) error {
	l, err := h.Listen(":" + port)
	if err != nil {
		return err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				if errors.Is(err, net.ErrClosed) {
					return
				}
				continue
			}
			go func() {
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(time.Minute))
				v := Visit{Transport: "tcp", From: addrPort(conn.RemoteAddr()), To: addrPort(conn.LocalAddr())}
				v.Body = talk(conn)
				s.note(v)
			}()
		}
	}()
	return nil
}

// serveUDP notes each datagram and sends it back.
func (s *Website) serveUDP(h *Host, addr string) error {
	pc, err := h.ListenPacket(addr)
	if err != nil {
		return err
	}
	go func() {
		buf := make([]byte, maxBody)
		for {
			n, from, err := pc.ReadFrom(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				continue
			}
			s.note(Visit{Transport: "udp", From: addrPort(from), To: addrPort(pc.LocalAddr()), Body: append([]byte(nil), buf[:n]...)})
			pc.WriteTo(buf[:n], from)
		}
	}()
	return nil
}

// serveDoT answers DNS over TLS for a name.
func (n *Nameserver) serveDoT(h *Host, ca *Authority) error {
	l, err := h.Listen(":853")
	if err != nil {
		return err
	}
	conf := ca.ServerConfig()
	conf.NextProtos = []string{"dot"}
	srv := &dns.Server{Listener: tls.NewListener(l, conf), Net: "tcp-tls", Handler: n}
	go srv.ActivateAndServe()
	return nil
}

func addrPort(a net.Addr) netip.AddrPort {
	ap, _ := netip.ParseAddrPort(a.String())
	return unmap(ap)
}
