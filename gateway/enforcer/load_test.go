package enforcer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/gateway/pin"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// loadEnv holds the gateway's address in the process that plays clients and origin for
// benchmarks, so that the gateway's own process shows what the gateway alone costs.
const loadEnv = "BULKHEAD_LOAD_GATEWAY"

const answerBytes = 100

// TestLoad is that other process. It reads commands and answers each with a line.
func TestLoad(t *testing.T) {
	gateway := os.Getenv(loadEnv)
	if gateway == "" {
		return
	}
	origin, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go serveLoad(origin)
	fmt.Println(origin.Addr())
	hello := firstFlight("api.github.com")
	var held []net.Conn
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var err error
		var kind string
		var conns, size int
		_, _ = fmt.Sscan(in.Text(), &kind, &conns, &size)
		switch kind {
		case "short": // conns connections, of which 16 at once
			err = together(16, func(i int) error {
				for range conns / 16 {
					c, err := ask(gateway, hello, answerBytes)
					if err != nil {
						return err
					}
					c.Close()
				}
				return nil
			})
		case "bulk": // conns connections with size bytes each
			err = together(conns, func(int) error {
				c, err := ask(gateway, append(hello[:len(hello):len(hello)], fmt.Sprintf("%020d", size)...), size)
				if err == nil {
					c.Close()
				}
				return err
			})
		case "idle": // conns more connections that stay open
			for range conns {
				c, askErr := ask(gateway, hello, answerBytes)
				if err = askErr; err != nil {
					break
				}
				held = append(held, c)
			}
		}
		if err != nil {
			fmt.Println(err)
		} else {
			fmt.Println("ok")
		}
	}
	for _, c := range held {
		c.Close()
	}
	os.Exit(0) // without the test's own report
}

// serveLoad answers each hello, and with as many bytes as the digits behind it say.
func serveLoad(ln net.Listener) {
	block := make([]byte, 256<<10)
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			b := make([]byte, 4<<10)
			n, err := c.Read(b)
			if err != nil {
				return
			}
			size := answerBytes
			if tail := strings.TrimLeft(string(b[max(n-20, 0):n]), "0"); len(tail) < 20 {
				if _, err := fmt.Sscanf(tail, "%d", &size); err != nil {
					size = answerBytes
				}
			}
			for size > 0 {
				n, err := c.Write(block[:min(size, len(block))])
				if err != nil {
					return
				}
				size -= n
			}
			_, _ = c.Read(b) // the client ends first
		}()
	}
}

// ask sends a hello and reads the answer.
func ask(gateway string, hello []byte, size int) (net.Conn, error) {
	c, err := net.Dial("tcp", gateway)
	if err != nil {
		return nil, err
	}
	if _, err = c.Write(hello); err == nil {
		if size <= answerBytes {
			_, err = io.ReadFull(c, make([]byte, size))
		} else {
			err = discard(c, size)
		}
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// discard reads without a splice into nowhere, as a client would.
func discard(c net.Conn, size int) error {
	b := make([]byte, 256<<10)
	for size > 0 {
		n, err := c.Read(b)
		if err != nil {
			return err
		}
		size -= n
	}
	return nil
}

func together(n int, do func(int) error) error {
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		wg.Go(func() { errs[i] = do(i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// looped is a listener on loopback whose connections all mean one destination.
type looped struct {
	Listener
	port atomic.Uint32
}

func (l *looped) Accept() (Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		c.Src, c.Dst = netip.AddrPortFrom(agent, uint16(l.port.Add(1))), netip.AddrPortFrom(github, 443)
	}
	return c, err
}

// toOrigin dials the other process in place of the destination.
type toOrigin struct {
	NetDialer
	to netip.AddrPort
}

func (d *toOrigin) Dial(ctx context.Context, src netip.Addr, _ netip.AddrPort) (*net.TCPConn, error) {
	return d.NetDialer.Dial(ctx, src, d.to)
}

func (d *toOrigin) Begin(src netip.Addr, _ netip.AddrPort) (int, error) {
	return d.NetDialer.Begin(src, d.to)
}

// load is a gateway in this process with its clients and origin in another.
type load struct {
	commands io.Writer
	answers  *bufio.Reader
}

func newLoad(b *testing.B, rec audit.Recorder) *load {
	b.Helper()
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	ln, err := Listen(context.Background(), netip.MustParseAddrPort("127.0.0.1:0"), 0)
	must(err)
	cmd := exec.Command(os.Args[0], "-test.run=^TestLoad$")
	cmd.Env = append(os.Environ(), loadEnv+"="+ln.(tproxyListener).Addr().String())
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(err)
	out, err := cmd.StdoutPipe()
	must(err)
	must(cmd.Start())
	l := &load{commands: in, answers: bufio.NewReader(out)}
	origin, err := l.answers.ReadString('\n')
	must(err)
	dialer := &toOrigin{to: netip.MustParseAddrPort(strings.TrimSpace(origin))}
	pins := pin.New(pin.Options{})
	must(pins.Add(agent, "api.github.com", []pin.Answer{{Addr: github, TTL: time.Hour, Bound: "api.github.com"}}))
	rs := compile(b, rules)
	s := New(Options{
		Ruleset: func() *policy.Ruleset { return rs }, Pins: pins, Resolver: &resolver{pins: pins}, Audit: rec, HTTP: noHTTP{},
		Dialer: dialer, Limits: Limits{FlowsPerSource: 20_000}, Logf: b.Logf,
	})
	go func() { _ = s.Serve(context.Background(), &looped{Listener: ln}) }()
	b.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
		if err := s.Shutdown(context.Background()); err != nil {
			b.Error(err)
		}
	})
	return l
}

func (l *load) do(b *testing.B, format string, args ...any) {
	b.Helper()
	fmt.Fprintf(l.commands, format+"\n", args...)
	if answer, err := l.answers.ReadString('\n'); err != nil || answer != "ok\n" {
		b.Fatal(answer, err)
	}
}

type discardLog struct{}

func (discardLog) Record(audit.Record) error { return nil }

func (discardLog) Submit(_ audit.Record, done func(error)) { done(nil) }

func openLog(b *testing.B) audit.Recorder {
	dir := b.TempDir()
	l, err := audit.New(audit.Options{File: filepath.Join(dir, "audit.jsonl"), State: dir, Version: "bench"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	return l
}

func processorTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkConnection is a connection with a hello and a short answer: what the gateway's
// process spends on it. With the audit, two events are written for each.
func BenchmarkConnection(b *testing.B) {
	for _, audited := range []bool{false, true} {
		b.Run(fmt.Sprintf("audit=%v", audited), func(b *testing.B) {
			var rec audit.Recorder = discardLog{}
			if audited {
				rec = openLog(b)
			}
			l := newLoad(b, rec)
			l.do(b, "short 1600")
			used := processorTime()
			n := 0
			b.ResetTimer()
			for b.Loop() {
				l.do(b, "short 1600")
				n += 1600
			}
			b.ReportMetric(float64((processorTime()-used).Microseconds())/float64(n), "cpu-us/conn")
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "conn/s")
		})
	}
}

// BenchmarkBulk is a download, by number of connections.
func BenchmarkBulk(b *testing.B) {
	for _, conns := range []int{1, 8} {
		b.Run(fmt.Sprintf("conns=%d", conns), func(b *testing.B) {
			l := newLoad(b, discardLog{})
			const total = 2 << 30
			used := processorTime()
			b.SetBytes(total)
			for b.Loop() {
				l.do(b, "bulk %d %d", conns, total/conns)
			}
			b.ReportMetric((processorTime()-used).Seconds()/float64(b.N)/(total/1e9), "cpu-s/GB")
		})
	}
}

// BenchmarkIdle is the memory (PSS) and the descriptors of a connection that is open and
// silent, of 3,000.
func BenchmarkIdle(b *testing.B) {
	for b.Loop() {
		l := newLoad(b, discardLog{})
		l.do(b, "short 1600")
		fds, pss := usage(b)
		const conns = 3000
		l.do(b, "idle %d", conns)
		<-time.After(3 * time.Second) // memory of the opening goes back
		fds2, pss2 := usage(b)
		b.ReportMetric(float64(fds2-fds)/conns, "fds/conn")
		b.ReportMetric(float64(pss2-pss)/conns, "B/conn")
		b.ReportMetric(0, "ns/op")
	}
}

func usage(b *testing.B) (fds, pss int) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		b.Fatal(err)
	}
	text, err := os.ReadFile("/proc/self/smaps_rollup")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			_, _ = fmt.Sscanf(rest, "%d kB", &pss)
		}
	}
	return len(entries), pss << 10
}
