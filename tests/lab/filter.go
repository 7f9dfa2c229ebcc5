package lab

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// Filter is a rule of a network security group: the first that matches decides about
// the first packet of a flow, and what follows it passes. A denied packet is dropped, and
// nobody is told.
type Filter struct {
	Src, Dst []netip.Prefix     // empty: any
	Proto    policy.Proto       // zero: any
	Ports    []policy.PortRange // of the destination; empty: any
	Allow    bool
}

// filter has the fabric enforce the security groups of subnets: outbound where packets
// come from, and inbound where they go.
func (h *Host) filter(subnets []Subnet) error {
	if !slices.ContainsFunc(subnets, func(s Subnet) bool { return len(s.Outbound)+len(s.Inbound) > 0 }) {
		return nil
	}
	c, err := nftables.New(nftables.WithNetNSFd(int(h.ns)))
	if err != nil {
		return fmt.Errorf("host %s: %w", h.Name, err)
	}
	f := &filters{conn: c, table: c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "groups"})}
	c.DelTable(f.table) // that of a network with fewer subnets
	f.table = c.AddTable(f.table)
	accept := nftables.ChainPolicyAccept
	forward := c.AddChain(&nftables.Chain{Table: f.table, Name: "forward", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward,
		Priority: nftables.ChainPriorityFilter, Policy: &accept})
	f.rule(forward, expr.VerdictAccept, known()...)
	for _, s := range subnets {
		for _, way := range []struct {
			name   string
			groups [][]Filter
			dev    expr.MetaKey
		}{{"out", s.Outbound, expr.MetaKeyIIFNAME}, {"in", s.Inbound, expr.MetaKeyOIFNAME}} {
			for i, group := range way.groups {
				chain := c.AddChain(&nftables.Chain{Table: f.table, Name: fmt.Sprintf("%s%d-%s", way.name, i, s.Dev)})
				name := make([]byte, unix.IFNAMSIZ)
				copy(name, s.Dev)
				f.jump(forward, chain, &expr.Meta{Key: way.dev, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: name})
				for _, r := range group {
					if err := f.add(chain, r); err != nil {
						return fmt.Errorf("host %s: security group of %s: %w", h.Name, s.Dev, err)
					}
				}
			}
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("host %s: security groups: %w", h.Name, err)
	}
	return nil
}

type filters struct {
	conn  *nftables.Conn
	table *nftables.Table
	sets  int
}

func (f *filters) rule(c *nftables.Chain, verdict expr.VerdictKind, match ...expr.Any) {
	f.conn.AddRule(&nftables.Rule{Table: f.table, Chain: c, Exprs: append(match, &expr.Verdict{Kind: verdict})})
}

func (f *filters) jump(from, to *nftables.Chain, match ...expr.Any) {
	f.conn.AddRule(&nftables.Rule{Table: f.table, Chain: from, Exprs: append(match, &expr.Verdict{Kind: expr.VerdictJump, Chain: to.Name})})
}

// known matches what belongs to a flow that was let through.
func known() []expr.Any {
	return []expr.Any{
		&expr.Ct{Register: 1, Key: expr.CtKeySTATE},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

// Offsets of the addresses in an IPv4 header (RFC 791), and of the destination's port in those of
// TCP and UDP.
const (
	offsetSrc, offsetDst = 12, 16
	offsetPort           = 2
)

func (f *filters) add(c *nftables.Chain, r Filter) error {
	verdict := expr.VerdictDrop
	if r.Allow {
		verdict = expr.VerdictReturn // the other groups have a say, too
	}
	var match []expr.Any
	for _, a := range []struct {
		offset   uint32
		prefixes []netip.Prefix
	}{{offsetSrc, r.Src}, {offsetDst, r.Dst}} {
		if len(a.prefixes) == 0 {
			continue
		}
		set, err := f.addresses(a.prefixes)
		if err != nil {
			return err
		}
		match = append(match, &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: a.offset, Len: 4},
			&expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID})
	}
	if r.Proto != 0 {
		match = append(match, &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{byte(r.Proto)}})
	}
	if len(r.Ports) == 0 {
		f.rule(c, verdict, match...)
		return nil
	}
	for _, p := range r.Ports {
		f.rule(c, verdict, append(slices.Clone(match), &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offsetPort, Len: 2},
			&expr.Range{Op: expr.CmpOpEq, Register: 1, FromData: binary.BigEndian.AppendUint16(nil, p.Lo), ToData: binary.BigEndian.AppendUint16(nil, p.Hi)})...)
	}
	return nil
}

// addresses makes a set of what prefixes hold.
func (f *filters) addresses(prefixes []netip.Prefix) (*nftables.Set, error) {
	f.sets++
	set := &nftables.Set{Table: f.table, Name: fmt.Sprintf("addresses%d", f.sets), KeyType: nftables.TypeIPAddr, Interval: true, Constant: true}
	prefixes = slices.Clone(prefixes)
	slices.SortFunc(prefixes, func(a, b netip.Prefix) int {
		return cmp.Or(a.Masked().Addr().Compare(b.Masked().Addr()), a.Bits()-b.Bits())
	})
	var elements []nftables.SetElement
	end := uint64(0) // behind the last address that is in
	for _, p := range prefixes {
		if !p.Addr().Is4() {
			continue
		}
		first := p.Masked().Addr().As4()
		from := max(uint64(binary.BigEndian.Uint32(first[:])), end)
		to := uint64(binary.BigEndian.Uint32(first[:])) + 1<<(32-p.Bits())
		if from >= to {
			continue // within another prefix
		}
		elements = append(elements, nftables.SetElement{Key: binary.BigEndian.AppendUint32(nil, uint32(from))})
		if to < 1<<32 {
			elements = append(elements, nftables.SetElement{Key: binary.BigEndian.AppendUint32(nil, uint32(to)), IntervalEnd: true})
		}
		end = to
	}
	return set, f.conn.AddSet(set, elements)
}
