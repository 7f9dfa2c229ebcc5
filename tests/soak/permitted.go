package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// visit is a connection to a website, for one request after the other.
type visit struct {
	s    *soak
	conn net.Conn
	in   *bufio.Reader
	name string
	open trace // the event that it must have
}

// open connects to an address, with TLS on any port but 80.
func (s *soak) open(h *lab.Host, to netip.AddrPort, name string) (*visit, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := h.Dial(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	v := &visit{s: s, name: name, open: traceOf(conn)}
	if to.Port() != 80 {
		c := tls.Client(conn, &tls.Config{ServerName: name, RootCAs: s.lab.Roots()})
		if err := c.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, err
		}
		conn = c
	}
	v.conn, v.in = conn, bufio.NewReader(conn)
	return v, nil
}

func (v *visit) close() { v.conn.Close() }

// get makes a request and returns how long the body was. What was answered must be in the audit.
func (v *visit) get(path string) (int64, error) {
	v.conn.SetDeadline(time.Now().Add(patience))
	req, err := http.NewRequest(http.MethodGet, "http://"+v.name+path, nil)
	if err != nil {
		return 0, err
	}
	if err := req.Write(v.conn); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(v.in, req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if err != nil {
		return n, err
	}
	if resp.StatusCode != http.StatusOK {
		return n, fmt.Errorf("%s%s: %s", v.name, path, resp.Status)
	}
	if _, encrypted := v.conn.(*tls.Conn); !encrypted {
		request := v.open
		request.class = audit.HTTPActivity
		v.s.trail.expect(request)
	}
	return n, nil
}

// opened says that the connection has been of use, so its beginning must be in the audit.
func (v *visit) opened() { v.s.trail.expect(v.open) }

// fetch is a visit of one request.
func (s *soak) fetch(h *lab.Host, to netip.AddrPort, name, path string) (int64, error) {
	v, err := s.open(h, to, name)
	if err != nil {
		return 0, err
	}
	defer v.close()
	n, err := v.get(path)
	if err == nil {
		v.opened()
	}
	return n, err
}

// resolve asks for a name. The answer must be in the audit.
func (s *soak) resolve(ctx context.Context, h *lab.Host, name string) (netip.Addr, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	addrs, err := s.lab.Resolve(ctx, h, name)
	if err != nil {
		return netip.Addr{}, err
	}
	s.trail.expect(trace{class: audit.DNSActivity, src: netip.AddrPortFrom(h.Addr, 0), name: name})
	return addrs[rand.N(len(addrs))], nil
}

// tool is a tool call from the name on.
func (s *soak) tool(ctx context.Context, h *lab.Host) error {
	a, err := s.resolve(ctx, h, lab.ToolName)
	if err != nil {
		return err
	}
	_, err = s.fetch(h, netip.AddrPortFrom(a, 443), lab.ToolName, "/user")
	return err
}

// remembered is a tool call of an agent that does not ask again.
func (s *soak) remembered(_ context.Context, h *lab.Host) error {
	a := []netip.Addr{lab.GitHub, lab.GitHub2}[rand.N(2)]
	_, err := s.fetch(h, netip.AddrPortFrom(a, 443), lab.ToolName, "/user")
	return err
}

// session is a connection that lives over reloads.
func (s *soak) session(ctx context.Context, h *lab.Host) error {
	v, err := s.open(h, netip.AddrPortFrom(lab.GitHub, 443), lab.ToolName)
	if err != nil {
		return err
	}
	defer v.close()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for i := range 30 {
		if _, err := v.get("/turn"); err != nil {
			return fmt.Errorf("request %d: %w", i+1, err)
		}
		if i == 0 {
			v.opened()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

func (s *soak) bulk(_ context.Context, h *lab.Host) error {
	const size = 4 << 20
	n, err := s.fetch(h, netip.AddrPortFrom(lab.GitHub2, 443), lab.ToolName, fmt.Sprintf("/bytes?n=%d", size))
	if err == nil && n != size {
		return fmt.Errorf("%d of %d bytes came", n, size)
	}
	return err
}

// mirror makes some requests on one plain connection.
func (s *soak) mirror(ctx context.Context, h *lab.Host) error {
	a, err := s.resolve(ctx, h, lab.MirrorName)
	if err != nil {
		return err
	}
	v, err := s.open(h, netip.AddrPortFrom(a, 80), lab.MirrorName)
	if err != nil {
		return err
	}
	defer v.close()
	for i := range 8 {
		if _, err := v.get("/package"); err != nil {
			return fmt.Errorf("request %d: %w", i+1, err)
		}
	}
	v.opened()
	return nil
}

// stream reads server-sent events, whole.
func (s *soak) stream(_ context.Context, h *lab.Host) error {
	n, err := s.fetch(h, netip.AddrPortFrom(lab.Mirror, 80), lab.MirrorName, "/events")
	if err == nil && n < 60 {
		return fmt.Errorf("the stream ended after %d bytes", n)
	}
	return err
}

var lookupNames = []string{lab.ToolName, lab.LoginName, lab.MirrorName, lab.OpenAIName, "mcr.microsoft.com"}

func (s *soak) lookups(ctx context.Context, h *lab.Host) error {
	name := lookupNames[rand.N(len(lookupNames))]
	if _, err := s.resolve(ctx, h, name); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// forwarded sends something through the kernel and back.
func (s *soak) forwarded(network string) func(context.Context, *lab.Host) error {
	var calls atomic.Uint32
	return func(_ context.Context, h *lab.Host) error {
		from := netip.AddrPort{}
		if network == "udp" {
			// To the kernel, datagrams from a port that was used a minute ago belong to the flow
			// of then, which has its event. So ports come in turn, below the ephemeral ones.
			from = netip.AddrPortFrom(h.Addr, uint16(8000+calls.Add(1)%24000))
		}
		conn, err := s.dialInfra(h, network, from)
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := echoed(conn); err != nil {
			return err
		}
		s.trail.expect(traceOf(conn))
		return nil
	}
}

// steady uses one forwarded connection for the whole run: the gateway's process has no part in
// it, so its end is none of the connection's.
func (s *soak) steady() func(context.Context, *lab.Host) error {
	var conns sync.Map // by host; each has one worker
	return func(_ context.Context, h *lab.Host) error {
		conn, ok := conns.Load(h)
		if !ok {
			c, err := s.dialInfra(h, "tcp", netip.AddrPort{})
			if err != nil {
				return err
			}
			conns.Store(h, c)
			s.trail.expect(traceOf(c))
			conn = c
		}
		err := echoed(conn.(net.Conn))
		if err != nil {
			conn.(net.Conn).Close()
			conns.Delete(h)
		}
		return err
	}
}

func (s *soak) dialInfra(h *lab.Host, network string, from netip.AddrPort) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return h.DialFrom(ctx, network, from, infra.String())
}

func echoed(conn net.Conn) error {
	said := []byte("anybody there?")
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write(said); err != nil {
		return err
	}
	heard := make([]byte, len(said))
	if _, err := io.ReadFull(conn, heard); err != nil {
		return err
	}
	if !bytes.Equal(said, heard) {
		return fmt.Errorf("the echo is %q", heard)
	}
	return nil
}
