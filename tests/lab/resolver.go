package lab

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// Nameserver is a DNS server whose records tests may change while it runs. It
// follows CNAMEs through its own records, as a recursive resolver would.
type Nameserver struct {
	mu      sync.Mutex
	records map[string][]dns.RR // by owner, lower-case and with the final dot; "*.x." serves what is below x
	hooks   map[string]Hook
	queries []Query
}

// Hook answers questions for one name in place of its records.
type Hook func(q dns.Question) []dns.RR

// Query is one question that arrived.
type Query struct {
	From netip.Addr
	Name string // lower-case, without the final dot
	Type string
	TCP  bool
}

const maxQueries = 100_000 // kept for tests to read

// NewNameserver serves records in zone-file notation, one per string.
func NewNameserver(records ...string) (*Nameserver, error) {
	n := &Nameserver{records: map[string][]dns.RR{}, hooks: map[string]Hook{}}
	return n, n.Add(records...)
}

// Add adds records, such as "api.github.com 60 IN A 140.82.121.6".
func (n *Nameserver) Add(records ...string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range records {
		rr, err := dns.NewRR(s)
		if err != nil || rr == nil {
			return fmt.Errorf("record %q: %v", s, err)
		}
		owner := strings.ToLower(rr.Header().Name)
		n.records[owner] = append(n.records[owner], rr)
	}
	return nil
}

// Set replaces all records of the owners that the given ones name.
func (n *Nameserver) Set(records ...string) error {
	n.mu.Lock()
	for _, s := range records {
		if rr, err := dns.NewRR(s); err == nil && rr != nil {
			delete(n.records, strings.ToLower(rr.Header().Name))
		}
	}
	n.mu.Unlock()
	return n.Add(records...)
}

// Handle has a hook answer for a name; nil takes it away.
func (n *Nameserver) Handle(name string, hook Hook) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if name = dns.CanonicalName(name); hook == nil {
		delete(n.hooks, name)
	} else {
		n.hooks[name] = hook
	}
}

// Queries returns what has been asked so far, oldest first.
func (n *Nameserver) Queries() []Query {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]Query(nil), n.queries...)
}

// Asked reports whether a name, or one below it, has been asked for.
func (n *Nameserver) Asked(name string) bool {
	for _, q := range n.Queries() {
		if Below(q.Name, name) {
			return true
		}
	}
	return false
}

// Serve answers on port 53 of an address of the host, over UDP and TCP.
func (n *Nameserver) Serve(h *Host, addr netip.Addr) error {
	at := netip.AddrPortFrom(addr, 53).String()
	pc, err := h.ListenPacket(at)
	if err != nil {
		return err
	}
	l, err := h.Listen(at)
	if err != nil {
		return err
	}
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: n}, {Listener: l, Handler: n}} {
		go s.ActivateAndServe() // ends with the host's sockets
	}
	return nil
}

// ServeDNS implements dns.Handler.
func (n *Nameserver) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(r)
	m.RecursionAvailable = true
	size := dns.MinMsgSize
	_, tcp := w.RemoteAddr().(*net.TCPAddr)
	if len(r.Question) != 1 {
		m.Rcode = dns.RcodeFormatError
	} else {
		q := r.Question[0]
		n.note(w.RemoteAddr(), q, tcp)
		m.Answer, m.Rcode = n.answer(q)
	}
	if opt := r.IsEdns0(); opt != nil {
		m.SetEdns0(1232, false)
		size = int(opt.UDPSize())
	}
	if tcp {
		size = dns.MaxMsgSize
	}
	m.Truncate(size)
	w.WriteMsg(m) // the client asks again
}

func (n *Nameserver) note(from net.Addr, q dns.Question, tcp bool) {
	ap, _ := netip.ParseAddrPort(from.String())
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.queries) < maxQueries {
		n.queries = append(n.queries, Query{From: ap.Addr().Unmap(), Name: strings.TrimSuffix(strings.ToLower(q.Name), "."),
			Type: dns.TypeToString[q.Qtype], TCP: tcp})
	}
}

func (n *Nameserver) answer(q dns.Question) ([]dns.RR, int) {
	n.mu.Lock()
	hook := n.hooks[dns.CanonicalName(q.Name)]
	n.mu.Unlock()
	if hook != nil {
		return hook(q), dns.RcodeSuccess
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []dns.RR
	name, found := q.Name, false
	for range 16 { // longer chains are loops
		next := ""
		for _, rr := range n.lookupLocked(name) {
			found = true
			if c, ok := rr.(*dns.CNAME); ok && q.Qtype != dns.TypeCNAME {
				next = c.Target
			} else if rr.Header().Rrtype != q.Qtype && q.Qtype != dns.TypeANY {
				continue
			}
			rr = dns.Copy(rr)
			rr.Header().Name = name
			out = append(out, rr)
		}
		if next == "" {
			break
		}
		name = next
	}
	if !found {
		return nil, dns.RcodeNameError
	}
	return out, dns.RcodeSuccess
}

func (n *Nameserver) lookupLocked(name string) []dns.RR {
	name = dns.CanonicalName(name)
	if rrs, ok := n.records[name]; ok {
		return rrs
	}
	for off, end := dns.NextLabel(name, 0); !end; off, end = dns.NextLabel(name, off) {
		if rrs, ok := n.records["*."+name[off:]]; ok {
			return rrs
		}
	}
	return nil
}

var _ dns.Handler = (*Nameserver)(nil)
