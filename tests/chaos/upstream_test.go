package chaos

import (
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// liar is an upstream resolver that answers as it is told to.
type liar struct {
	how  atomic.Value // of func(q *dns.Msg) [][]byte
	seen atomic.Int64
}

func (l *liar) serve(pc net.PacketConn) {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := pc.ReadFrom(buf)
		if err != nil {
			return
		}
		q := new(dns.Msg)
		if q.Unpack(buf[:n]) != nil || len(q.Question) != 1 {
			continue
		}
		l.seen.Add(1)
		for _, b := range l.how.Load().(func(*dns.Msg) [][]byte)(q) {
			pc.WriteTo(b, from)
		}
	}
}

func answer(q *dns.Msg, change func(*dns.Msg)) [][]byte {
	m := new(dns.Msg).SetReply(q)
	if q.Question[0].Qtype == dns.TypeA {
		m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: lab.GitHub.AsSlice()}}
	}
	if change != nil && len(m.Answer) > 0 {
		change(m)
	}
	b, err := m.Pack()
	if err != nil {
		return nil
	}
	return [][]byte{b}
}

// evil puts the attacker's address into an answer.
func evil(m *dns.Msg) {
	for _, rr := range m.Answer {
		rr.(*dns.A).A = lab.Exfil.AsSlice()
	}
}

// TestUpstream: the resolver above dies, lies and dawdles. What is not an answer to the
// question pins nothing, and the truth works afterwards. A false address for the
// very question cannot be told from a true one; that is what the upstream is trusted for.
func TestUpstream(t *testing.T) {
	s := open(t, lab.Options{Configure: func(c map[string]any) {
		c["dns"] = map[string]any{"listen": lab.GatewayAddr.String() + ":53", "upstream": []string{upstreamAddr.String() + ":53"}}
	}})
	var l liar
	truth := func(q *dns.Msg) [][]byte { return answer(q, nil) }
	l.how.Store(truth)
	pc, err := s.Host(lab.Platform).ListenPacket(upstreamAddr.String() + ":53")
	s.must(err)
	go l.serve(pc)
	faults(7) // eight below
	for name, lie := range map[string]func(q *dns.Msg) [][]byte{
		"dead":     func(*dns.Msg) [][]byte { return nil },
		"wrong id": func(q *dns.Msg) [][]byte { return answer(q, func(m *dns.Msg) { m.Id++; evil(m) }) },
		"wrong name": func(q *dns.Msg) [][]byte {
			return answer(q, func(m *dns.Msg) { m.Answer[0].Header().Name = "www.attacker.example."; evil(m) })
		},
		"wrong question": func(q *dns.Msg) [][]byte {
			return answer(q, func(m *dns.Msg) { m.Question[0].Name = "www.attacker.example."; evil(m) })
		},
		"private": func(q *dns.Msg) [][]byte {
			return answer(q, func(m *dns.Msg) { m.Answer[0].(*dns.A).A = lab.DatabaseIP.AsSlice() })
		},
		"question": func(q *dns.Msg) [][]byte { return answer(q, func(m *dns.Msg) { m.Response = false }) },
		"garbage":  func(*dns.Msg) [][]byte { return [][]byte{make([]byte, 11), {0xff}, make([]byte, 60000)} },
		"huge": func(q *dns.Msg) [][]byte {
			return answer(q, func(m *dns.Msg) {
				evil(m)
				m.Answer[0].Header().Name = "www.attacker.example."
				for range 2000 {
					m.Answer = append(m.Answer, dns.Copy(m.Answer[0]))
				}
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			s.t = t
			defer func() { l.how.Store(truth) }()
			host := s.invoice
			l.how.Store(lie)
			before := l.seen.Load()
			if addrs, err := s.resolveNew(host); err == nil && len(addrs) > 0 {
				t.Errorf("resolved to %v", addrs)
			}
			if l.seen.Load() == before && name != "dead" {
				t.Log("the upstream was not asked: it counts as dead")
			}
			l.how.Store(truth)
			s.works("resolving", func() error {
				_, err := s.resolveNew(host)
				return err
			})
		})
	}
	s.t = t
	s.must(s.get(s.invoice, "https://"+lab.ToolName+"/"))
	s.close()
}

// resolveNew asks, past every cache, for a name that the ruleset permits.
func (s *stage) resolveNew(h *lab.Host) ([]net.IP, error) {
	conn, err := h.Dial(s.ctx, "udp", lab.GatewayAddr.String()+":53")
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	name := "gsm" + time.Now().Format("150405.000000000")[7:] + "eh.servicebus.windows.net."
	c := dns.Client{Timeout: 7 * time.Second}
	r, _, err := c.ExchangeWithConn(new(dns.Msg).SetQuestion(name, dns.TypeA), &dns.Conn{Conn: conn})
	if err != nil {
		return nil, err
	}
	if r.Rcode != dns.RcodeSuccess {
		return nil, &net.DNSError{Err: dns.RcodeToString[r.Rcode], Name: name}
	}
	var out []net.IP
	for _, rr := range r.Answer {
		if a, ok := rr.(*dns.A); ok {
			out = append(out, a.A)
		}
	}
	if len(out) == 0 {
		return nil, &net.DNSError{Err: "no address", Name: name}
	}
	return out, nil
}
