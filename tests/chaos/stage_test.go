package chaos

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// patience bounds everything that is waited for.
const patience = 40 * time.Second

// stage is a lab in which something is going to break.
type stage struct {
	*lab.Lab
	t                 *testing.T
	ctx               context.Context
	invoice, research *lab.Host
	far               map[string]*lab.Capture

	tried     atomic.Int64
	stopAgent func()
}

// open builds the lab, and lets an agent try what is forbidden until close.
func open(t *testing.T, opt lab.Options) *stage {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	if opt.Gateway == "" {
		opt.Gateway = gateway
	}
	l, err := lab.Up(ctx, opt)
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{Lab: l, t: t, ctx: ctx, invoice: l.Host(lab.InvoiceAgent), research: l.Host(lab.ResearchAgent), far: map[string]*lab.Capture{}}
	t.Cleanup(func() {
		if t.Failed() {
			if log, err := os.ReadFile(s.Paths.Log); err == nil {
				t.Logf("the gateway's log ends:\n%s", log[:min(3000, len(log))])
			}
		}
		if err := l.Down(); err != nil {
			t.Error(err)
		}
	})
	for _, name := range []string{lab.Internet, lab.Attacker, lab.Database, lab.Platform} {
		if s.far[name], err = l.Host(name).Capture(); err != nil {
			t.Fatal(err)
		}
	}
	s.echo()
	s.attack()
	faults(1)
	return s
}

// faults counts what was tried, beyond the one that every stage stands for.
func faults(n int) {
	sums.mu.Lock()
	defer sums.mu.Unlock()
	sums.faults += n
}

// forbidden is where the agent must not get.
var forbidden = []struct{ network, addr string }{
	{"tcp", netip.AddrPortFrom(lab.Exfil, 443).String()},
	{"udp", netip.AddrPortFrom(lab.Exfil, 4444).String()},
	{"tcp", netip.AddrPortFrom(lab.Malicious, 443).String()},
	{"tcp", netip.AddrPortFrom(lab.DatabaseIP, 5432).String()},
	{"udp", "8.8.8.8:443"},
	{"tcp", netip.AddrPortFrom(lab.GitHub, 22).String()},
}

// attack has the research agent try everything forbidden, over and over.
func (s *stage) attack() {
	ctx, cancel := context.WithCancel(s.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i++ {
			f := forbidden[i%len(forbidden)]
			attempt, end := context.WithTimeout(ctx, 200*time.Millisecond)
			if conn, err := s.research.Dial(attempt, f.network, f.addr); err == nil {
				conn.Write([]byte("company data"))
				conn.Close()
			}
			s.tried.Add(1)
			pace := time.NewTimer(10 * time.Millisecond)
			select {
			case <-pace.C:
			case <-ctx.Done():
			}
			end()
		}
	}()
	s.stopAgent = func() { cancel(); <-done }
}

// close counts what leaked and what is missing in the audit. The gateway is stopped well,
// so that all it knows is on disk.
func (s *stage) close() {
	t := s.t
	t.Helper()
	s.stopAgent()
	if err := s.Process.Stop(s.ctx); err != nil {
		t.Error(err)
	}
	leaked, permitted := 0, map[netip.AddrPort]map[netip.AddrPort]bool{}
	for name, c := range s.far {
		if err := c.Flush(s.ctx, s.Host(lab.Fabric)); err != nil {
			t.Fatal(err)
		}
		for _, p := range c.Packets() {
			if !mayArrive(p) {
				leaked++
				t.Errorf("leaked to %s: %s", name, p)
			}
			if p.SYN && p.Dst.Port() != 53 {
				if permitted[p.Dst] == nil {
					permitted[p.Dst] = map[netip.AddrPort]bool{}
				}
				permitted[p.Dst][p.Src] = true
			}
		}
	}
	opened := s.opened()
	lost, flows := 0, 0
	for dst, sources := range permitted {
		flows += len(sources)
		if n := len(sources) - opened[dst]; n > 0 {
			lost += n
			t.Errorf("%d flows to %s, %d in the audit", len(sources), dst, opened[dst])
		}
	}
	t.Logf("forbidden attempts %d, packets leaked %d; permitted flows %d, events lost %d", s.tried.Load(), leaked, flows, lost)
	sums.mu.Lock()
	defer sums.mu.Unlock()
	sums.tried += int(s.tried.Load())
	sums.leaked += leaked
	sums.permitted += flows
	sums.lost += lost
}

// mayArrive reports whether a packet belongs to what the ruleset permits.
func mayArrive(p lab.Packet) bool {
	switch p.Dst.Addr() {
	case lab.AgentInfra, lab.WireServer, upstreamAddr:
		return true
	case lab.GitHub, lab.GitHub2:
		return p.Proto == policy.TCP && p.Dst.Port() == 443
	case lab.Mirror:
		return p.Proto == policy.TCP && p.Dst.Port() == 80
	}
	return false
}

// upstreamAddr is the platform host's own address, where a test may put a resolver.
var upstreamAddr = netip.MustParseAddr("10.255.1.2")

// opened verifies the audit and counts the permitted flows in it by destination. An
// event that stands for several counts as many.
func (s *stage) opened() map[netip.AddrPort]int {
	t := s.t
	t.Helper()
	files, err := filepath.Glob(filepath.Join(filepath.Dir(s.Paths.Audit), "audit*.jsonl"))
	if err != nil || len(files) == 0 {
		t.Fatalf("audit files: %v, %v", files, err)
	}
	report, err := audit.Verify(files...)
	if err != nil || report.Broken {
		t.Fatalf("the audit does not verify: %v %v", report.Breaks, err)
	}
	events, err := s.Events()
	if err != nil {
		t.Fatal(err)
	}
	opened := map[netip.AddrPort]int{}
	for _, e := range events {
		if e.ClassUID == audit.NetworkActivity && e.ActivityID == int(audit.Open) && e.ActionID == 1 {
			a, err := netip.ParseAddr(e.DstEndpoint.IP)
			if err != nil {
				t.Fatal(err)
			}
			opened[netip.AddrPortFrom(a, e.DstEndpoint.Port)] += max(e.Count, 1)
		}
	}
	return opened
}

// tool is a permitted tool call of the invoice agent, from the name on.
func (s *stage) tool() error { return s.get(s.invoice, "https://"+lab.ToolName+"/user") }

func (s *stage) get(h *lab.Host, url string) error {
	client := h.HTTPClient(s.Lab)
	client.Timeout = 4 * time.Second
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", resp.Status)
	}
	return err
}

// pinned connects to an address that was resolved before, without asking again.
func (s *stage) pinned(h *lab.Host, addr netip.Addr) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(s.ctx, 4*time.Second)
	defer cancel()
	conn, err := h.Dial(ctx, "tcp", netip.AddrPortFrom(addr, 443).String())
	if err != nil {
		return nil, err
	}
	c := tls.Client(conn, &tls.Config{ServerName: lab.ToolName, RootCAs: s.Roots()})
	if err := c.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

// infraPort is one on which no names exist, so that the kernel forwards its flows alone.
const infraPort = 7000

// echo answers on infraPort of the agents' infrastructure.
func (s *stage) echo() {
	l, err := s.Host(lab.Platform).Listen(netip.AddrPortFrom(lab.AgentInfra, infraPort).String())
	s.must(err)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				io.Copy(conn, conn)
				conn.Close()
			}()
		}
	}()
}

// infra is a flow that the kernel forwards.
func (s *stage) infra() error {
	conn, err := s.infraConn()
	if err != nil {
		return err
	}
	defer conn.Close()
	return exchange(conn)
}

func (s *stage) infraConn() (net.Conn, error) {
	ctx, cancel := context.WithTimeout(s.ctx, time.Second)
	defer cancel()
	return s.invoice.Dial(ctx, "tcp", netip.AddrPortFrom(lab.AgentInfra, infraPort).String())
}

// exchange sends something on a connection that stays open, and reads an answer. It is a
// request, for those who know no other.
func exchange(conn net.Conn) error {
	conn.SetDeadline(time.Now().Add(4 * time.Second))
	if _, err := io.WriteString(conn, "GET /x HTTP/1.1\r\nHost: "+lab.ToolName+"\r\n\r\n"); err != nil {
		return err
	}
	_, err := conn.Read(make([]byte, 4096))
	return err
}

// works waits until something does, fails until it no longer does.
func (s *stage) works(what string, f func() error) {
	s.t.Helper()
	s.eventually(what+" works", func() bool { return f() == nil })
}

func (s *stage) fails(what string, f func() error) {
	s.t.Helper()
	s.eventually(what+" is refused", func() bool { return f() != nil })
}

// eventually polls until ok says yes.
func (s *stage) eventually(what string, ok func() bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			s.t.Fatalf("not in time: %s", what)
		}
	}
}

// ready is the status of /readyz.
func (s *stage) ready() int {
	resp, err := s.Process.Admin(s.ctx, "/readyz")
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

func (s *stage) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}
