package enforcer

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

func TestLimits(t *testing.T) {
	tests := map[string]struct {
		limits Limits
		second netip.Addr // source of the flow that is too many
		other  bool       // another source still gets through
	}{
		"per source": {Limits{FlowsPerSource: 1}, agent, true},
		"all":        {Limits{Flows: 1}, neighbor, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, func(o *Options) { o.Limits = tt.limits })
			l.host(t, ledger, 5432, echo)
			first := l.dial(t, agent, ledger, 5432)
			ping(t, first)
			wantReset(t, l.dial(t, tt.second, ledger, 5432))
			if r := l.log.wait(t, audit.Refuse); r.Decision.Reason != policy.ReasonOverload {
				t.Errorf("%+v", r.Decision)
			}
			if tt.other {
				ping(t, l.dial(t, neighbor, ledger, 5432))
			}
			ping(t, first) // and the first goes on
			first.Close()
			l.log.wait(t, audit.Close)
		})
	}
}

// ping proves that a connection reaches an echo server.
func ping(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := io.WriteString(c, "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

func TestAcceptSurvivesWantOfDescriptors(t *testing.T) {
	l := newLab(t, nil)
	l.host(t, ledger, 5432, echo)
	for range 3 {
		l.ln.errs <- &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	ping(t, l.dial(t, agent, ledger, 5432))
}

func TestReload(t *testing.T) {
	l := newLab(t, nil)
	l.pin(t, agent, "api.github.com", github)
	l.host(t, github, 443, echo)
	l.host(t, ledger, 5432, echo)
	named := l.dial(t, agent, github, 443)
	raw := firstFlight("api.github.com")
	_, _ = named.Write(raw)
	if _, err := io.ReadFull(named, make([]byte, len(raw))); err != nil {
		t.Fatal(err)
	}
	byAddress := l.dial(t, agent, ledger, 5432)
	ping(t, byAddress)

	// The pin is long gone, but a live flow outlives it.
	l.clock.offset.Store(int64(72 * time.Hour))
	if n := l.Rejudge(t.Context()); n != 0 {
		t.Fatalf("%d withdrawn by the same ruleset", n)
	}
	ping(t, named)

	l.rules.Store(compile(t, strings.ReplaceAll(rules, "[api.github.com]", "[other.example.com]")))
	if n := l.Rejudge(t.Context()); n != 1 {
		t.Fatalf("%d withdrawn, want 1", n)
	}
	wantReset(t, named)
	ping(t, byAddress)
	r := l.log.wait(t, audit.Close)
	if r.Decision.Permitted() || r.Host != "api.github.com" || r.Digest != l.rules.Load().Digest() || r.BytesOut == 0 {
		t.Errorf("closed as %+v", r)
	}
}

// A reload that asks more of a flow than it was held to ends it, for it cannot be asked any more.
func TestReloadAsksMore(t *testing.T) {
	for field, want := range map[string]int{
		"": 0, "log: false": 0, `minTLS: "1.2"`: 1, "originCertificate: verify": 1, "budget: {bytesOut: 1000000, window: 24h}": 1, "maxRequestBytes: 1000": 1,
	} {
		l := newLab(t, nil)
		l.pin(t, agent, "api.github.com", github)
		l.host(t, github, 443, echo)
		c := l.dial(t, agent, github, 443)
		raw := firstFlight("api.github.com")
		_, _ = c.Write(raw)
		if _, err := io.ReadFull(c, make([]byte, len(raw))); err != nil {
			t.Fatal(err)
		}
		l.rules.Store(compile(t, strings.Replace(rules, "webGroups: [tools],", "webGroups: [tools], "+strings.TrimPrefix(field+",", ","), 1)))
		if n := l.Rejudge(t.Context()); n != want {
			t.Errorf("%q: %d withdrawn, want %d", field, n, want)
		}
	}
}

// A flow that has not said its name yet is not withdrawn by a reload, but judged by it.
func TestReloadBeforeTheName(t *testing.T) {
	l := newLab(t, nil)
	l.pin(t, agent, "api.github.com", github)
	l.host(t, github, 443, tlsEcho)
	c := l.dial(t, agent, github, 443)
	raw := firstFlight("api.github.com")
	_, _ = c.Write(raw[:10])
	if n := l.Rejudge(t.Context()); n != 0 {
		t.Errorf("%d withdrawn", n)
	}
	l.rules.Store(compile(t, strings.ReplaceAll(rules, "[api.github.com]", "[other.example.com]")))
	l.Rejudge(t.Context())
	_, _ = c.Write(raw[10:])
	_ = c.CloseWrite()
	if r := l.log.wait(t, audit.Refuse); r.Host != "api.github.com" && r.Decision.Stage != policy.StagePacket {
		t.Errorf("refused as %+v", r)
	}
	if l.log.count(audit.Open) != 0 {
		t.Error("opened")
	}
}

// A flow that is decided while the ruleset changes is judged by the new one.
func TestReloadDuringDecision(t *testing.T) {
	l := newLab(t, nil)
	l.pin(t, agent, "api.github.com", github)
	after := compile(t, strings.ReplaceAll(rules, "[api.github.com]", "[other.example.com]"))
	var once sync.Once
	before := l.rules.Load()
	l.opt.Ruleset = func() *policy.Ruleset {
		rs := before
		// The old ruleset is handed out and at once withdrawn.
		once.Do(func() {
			l.rules.Store(after)
			l.gen.Add(1)
		})
		if l.rules.Load() == after && rs == before {
			before = after
		}
		return rs
	}
	f := &flow{srv: l.Server}
	facts := policy.Flow{Stage: policy.StageName, Src: agent, Dst: github, Proto: policy.TCP, Port: 443, Name: "api.github.com", Wire: policy.WireTLS}
	if v := f.admit(func() verdict { return l.judge(t.Context(), facts) }); v.Permitted() || f.live != nil {
		t.Errorf("admitted under a withdrawn ruleset: %+v", v.Decision)
	}
}

func TestShutdown(t *testing.T) {
	l := newLab(t, nil)
	l.host(t, ledger, 5432, echo)
	c := l.dial(t, agent, ledger, 5432)
	ping(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	wantReset(t, c)
	l.log.wait(t, audit.Close)
}

func TestShutdownDrains(t *testing.T) {
	l := newLab(t, nil)
	l.host(t, ledger, 5432, echo)
	c := l.dial(t, agent, ledger, 5432)
	ping(t, c)
	done := make(chan error, 1)
	go func() { done <- l.Shutdown(t.Context()) }()
	ping(t, c)
	_ = c.CloseWrite()
	if rest, err := io.ReadAll(c); err != nil || len(rest) != 0 {
		t.Fatal(rest, err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// A fault in the handling of one flow ends that flow only.
func TestPanicEndsOneFlow(t *testing.T) {
	l := newLab(t, func(o *Options) { o.HTTP = panicHTTP{} })
	l.pin(t, agent, "api.github.com", github)
	l.host(t, ledger, 5432, echo)
	c := l.dial(t, agent, github, 80)
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\n")
	wantReset(t, c)
	if r := l.log.wait(t, audit.Refuse); r.Decision.Reason != policy.ReasonNotReady {
		t.Errorf("%+v", r.Decision)
	}
	ping(t, l.dial(t, agent, ledger, 5432))
}

type panicHTTP struct{}

func (panicHTTP) ServeFlow(context.Context, net.Conn, policy.Flow, Gate) { panic("fault") }

// Clients that send anything and leave at any moment bind nothing once they are gone.
func TestHostileClientsLeaveNothingBehind(t *testing.T) {
	l := newLab(t, func(o *Options) { o.Limits.HelloTimeout = 200 * time.Millisecond })
	l.pin(t, agent, "api.github.com", github)
	l.host(t, github, 443, tlsEcho)
	raw := firstFlight("api.github.com")
	r := rand.New(rand.NewPCG(1, 2))
	var wg sync.WaitGroup
	for range 300 {
		c := l.dial(t, agent, github, 443)
		b := append([]byte(nil), raw...)
		for range r.IntN(3) {
			b[r.IntN(len(b))] = byte(r.Uint32())
		}
		b = b[:r.IntN(len(b)+1)]
		how, cut := r.IntN(4), r.IntN(len(b)+1)
		wg.Go(func() {
			defer c.Close()
			_, _ = c.Write(b[:cut])
			switch how {
			case 0:
				reset(c)
				return
			case 1:
				return
			case 2:
				_, _ = c.Write(b[cut:])
				_ = c.CloseWrite()
			case 3:
				_, _ = c.Write(b[cut:])
			}
			_ = c.SetReadDeadline(time.Now().Add(time.Second))
			_, _ = io.Copy(io.Discard, c)
		})
	}
	wg.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := l.Shutdown(ctx); err != nil {
		t.Fatal("flows outlive their clients:", err)
	}
	if len(l.flows) != 0 || len(l.perSource) != 0 || l.peeks.Load() != 0 {
		t.Errorf("%d flows, %d sources, %d bytes stay bound", len(l.flows), len(l.perSource), l.peeks.Load())
	}
	if open, end := l.log.count(audit.Open), l.log.count(audit.Close); open != end {
		t.Errorf("%d flows opened, %d closed in the audit", open, end)
	}
}
