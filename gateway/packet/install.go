package packet

import (
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
)

// elementsPerMessage keeps a message's list of elements below the 64 KiB that a
// netlink attribute can hold.
const elementsPerMessage = 1000

// Socket buffers: a program with 100,000 prefixes is one batch of about 8 MiB, and
// every message of it is acknowledged.
const (
	sendBuffer    = 64 << 20
	receiveBuffer = 4 << 20
)

// dial opens a connection whose commands are sent as one transaction by Flush.
func dial(options ...nftables.ConnOption) (*nftables.Conn, error) {
	return nftables.New(append(options, nftables.WithSockOptions(func(c *netlink.Conn) error {
		if err := c.SetWriteBuffer(sendBuffer); err != nil {
			return err
		}
		return c.SetReadBuffer(receiveBuffer)
	}))...)
}

func kernelTable() *nftables.Table {
	return &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
}

// install replaces whatever program is loaded. Rules change in one transaction. The sets that
// they need and that are not there yet come in one before: the kernel makes the elements
// of a new set of ranges visible only some time after the rules, and packets in
// between would match neither the old nor the new. Kept sets keep their elements.
// What was made by a version with other sets or hooks is replaced as a whole.
func (p *program) install() error {
	c, err := dial()
	if err != nil {
		return err
	}
	old, err := listing(c)
	if err != nil {
		return err
	}
	t := c.AddTable(kernelTable())
	if !p.fits(old) {
		c.DelTable(t)
		t = c.AddTable(kernelTable())
		old = &loaded{}
	} else if len(old.chains) > 0 {
		if err := p.addSets(c, t, old); err != nil {
			return err
		}
		if err := c.Flush(); err != nil {
			return fmt.Errorf("loading the sets of the kernel program: %w", explain(err))
		}
		if old, err = listing(c); err != nil {
			return err
		}
	}
	p.clear(c, t, old)
	if err := p.write(c, t, old); err != nil {
		return err
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("loading the kernel program: %w", explain(err))
	}
	return nil
}

// loaded is what the kernel holds of us.
type loaded struct {
	sets   []*nftables.Set
	chains []*nftables.Chain
}

func listing(c *nftables.Conn) (*loaded, error) {
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, fmt.Errorf("listing nftables: %w", explain(err))
	}
	if !slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == tableName }) {
		return &loaded{}, nil
	}
	var l loaded
	if l.sets, err = c.GetSets(kernelTable()); err != nil {
		return nil, fmt.Errorf("listing sets: %w", err)
	}
	chains, err := c.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return nil, fmt.Errorf("listing chains: %w", err)
	}
	for _, ch := range chains {
		if ch.Table.Name == tableName {
			l.chains = append(l.chains, ch)
		}
	}
	return &l, nil
}

// fits reports whether hooks and kept sets are those of the program, so that they
// can stay. A base chain is never deleted and made again: the new one would stand
// in the packets' way, empty, before the transaction commits.
func (p *program) fits(old *loaded) bool {
	for _, have := range old.chains {
		i := slices.IndexFunc(p.chains, func(c *chain) bool { return c.name == have.Name })
		based := have.Hooknum != nil
		if based && (i < 0 || p.chains[i].hook == nil) {
			return false
		}
		if i >= 0 {
			h := p.chains[i].hook
			if based != (h != nil) || based && (*have.Hooknum != *h.point || *have.Priority != h.priority || have.Type != h.kind) {
				return false
			}
		}
	}
	for _, s := range p.sets {
		i := slices.IndexFunc(old.sets, func(have *nftables.Set) bool { return have.Name == s.name })
		if s.kept && i >= 0 && old.sets[i].KeyType.Name != s.keyType().Name {
			return false
		}
	}
	return true
}

// clear takes away the rules, and the sets and chains that are written anew.
func (p *program) clear(c *nftables.Conn, t *nftables.Table, old *loaded) {
	if len(old.chains) > 0 {
		c.FlushTable(t)
	}
	for _, s := range old.sets {
		if !slices.ContainsFunc(p.sets, func(w *set) bool { return w.name == s.Name }) {
			c.DelSet(&nftables.Set{Table: t, Name: s.Name})
		}
	}
	for _, ch := range old.chains {
		if ch.Hooknum == nil {
			c.DelChain(&nftables.Chain{Table: t, Name: ch.Name})
		}
	}
}

func (p *program) write(c *nftables.Conn, t *nftables.Table, old *loaded) error {
	if err := p.addSets(c, t, old); err != nil {
		return err
	}
	for _, ch := range p.chains {
		c.AddChain(ch.kernel(t))
	}
	for _, ch := range p.chains {
		for _, r := range ch.rules {
			c.AddRule(&nftables.Rule{Table: t, Chain: &nftables.Chain{Name: ch.name}, Exprs: r.exprs()})
		}
	}
	return nil
}

// addSets adds the sets that are not there.
func (p *program) addSets(c *nftables.Conn, t *nftables.Table, old *loaded) error {
	for _, s := range p.sets {
		if slices.ContainsFunc(old.sets, func(have *nftables.Set) bool { return have.Name == s.name }) {
			continue
		}
		if err := s.install(c, t); err != nil {
			return fmt.Errorf("set %s: %w", s.name, err)
		}
	}
	return nil
}

func (ch *chain) kernel(t *nftables.Table) *nftables.Chain {
	k := &nftables.Chain{Table: t, Name: ch.name}
	if h := ch.hook; h != nil {
		policy := nftables.ChainPolicyDrop
		if h.accept {
			policy = nftables.ChainPolicyAccept
		}
		k.Type, k.Hooknum, k.Priority, k.Policy = h.kind, h.point, &h.priority, &policy
	}
	return k
}

func (s *set) keyType() nftables.SetDatatype {
	if len(s.key) == 1 {
		return s.key[0]
	}
	return nftables.MustConcatSetType(s.key...)
}

// kernel is the set without its elements.
func (s *set) kernel(t *nftables.Table) *nftables.Set {
	return &nftables.Set{
		Table: t, Name: s.name, KeyType: s.keyType(), Concatenation: len(s.key) > 1,
		Interval: s.interval, HasTimeout: s.timeout > 0, Timeout: s.timeout, Dynamic: s.dynamic, Size: s.size,
	}
}

func (s *set) install(c *nftables.Conn, t *nftables.Table) error {
	k := s.kernel(t)
	if err := c.AddSet(k, nil); err != nil {
		return err
	}
	for part := range slices.Chunk(s.kernelElements(), elementsPerMessage) {
		if err := c.SetAddElements(k, part); err != nil {
			return err
		}
	}
	return nil
}

// kernelElements lists the content. An interval is two elements: where it begins, and
// where it no longer is; one that ends with the last address has no end.
func (s *set) kernelElements() []nftables.SetElement {
	out := make([]nftables.SetElement, 0, 2*len(s.ranges)+len(s.elements))
	for _, r := range s.ranges {
		from := r.From.As4()
		out = append(out, nftables.SetElement{Key: from[:]})
		if end := toUint(r.To); end != ^uint32(0) {
			next := fromUint(end + 1).As4()
			out = append(out, nftables.SetElement{Key: next[:], IntervalEnd: true})
		}
	}
	for _, e := range s.elements {
		out = append(out, nftables.SetElement{Key: e.key})
	}
	return out
}
