package policy

import (
	"net/netip"
	"slices"
)

// Flatten works out what addresses and ports alone decide, by asking Decide once for
// every stretch of addresses on which no rule begins or ends. So the kernel program
// is the evaluator's own answers, written down ahead.
func (r *Ruleset) Flatten() *KernelTable {
	t := &KernelTable{NamePorts: r.namePorts}
	points := r.destinationPoints()
	for _, src := range r.sourceAtoms() {
		for _, ports := range r.portAtoms() {
			class := KernelClass{Sources: src, Ports: ports}
			r.fill(&class, points)
			if len(class.Forward)+len(class.Enforce) > 0 {
				t.Classes = append(t.Classes, class)
			}
		}
	}
	return t
}

// fill asks for one class at every elementary stretch of destinations.
func (r *Ruleset) fill(class *KernelClass, points []uint32) {
	flow := Flow{Stage: StagePacket, Src: class.Sources[0].From, Proto: class.Ports[0].Proto, Port: class.Ports[0].Lo}
	if flow.Proto == ProtoOther {
		flow.Proto = unlisted
	}
	for i, from := range points {
		to := ^uint32(0)
		if i+1 < len(points) {
			to = points[i+1] - 1
		}
		flow.Dst = fromUint(from)
		d := r.Decide(&flow)
		if !d.Permitted() {
			continue
		}
		list := &class.Forward
		if d.Tier != TierKernel {
			if flow.Proto != TCP {
				continue // nothing but TCP can be read further
			}
			list = &class.Enforce
		}
		if n := len(*list); n > 0 && toUint((*list)[n-1].To)+1 == from {
			(*list)[n-1].To = fromUint(to)
			continue
		}
		*list = append(*list, AddrRange{fromUint(from), fromUint(to)})
	}
}

// unlisted is a protocol number that IANA leaves unassigned for use in experiments
// (RFC 3692); it stands for every protocol that no rule names.
const unlisted Proto = 253

// destinationPoints are the addresses at which an answer may change.
func (r *Ruleset) destinationPoints() []uint32 {
	points := []uint32{0}
	add := func(rs []AddrRange) {
		for _, x := range rs {
			points = append(points, toUint(x.From))
			if to := toUint(x.To); to != ^uint32(0) {
				points = append(points, to+1)
			}
		}
	}
	for i := range r.rules {
		add(r.rules[i].destinations)
	}
	add(internetRanges)
	add(ranges(unroutable))
	for _, a := range r.env.Gateway {
		if a.Is4() {
			add([]AddrRange{{a, a}})
		}
	}
	slices.Sort(points)
	return slices.Compact(points)
}

// sourceAtoms groups the agents' addresses by the rules that apply to them.
func (r *Ruleset) sourceAtoms() [][]AddrRange {
	agents := r.env.Agents
	if len(agents) == 0 {
		agents = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
	}
	points := []uint32{0}
	add := func(x AddrRange) {
		points = append(points, toUint(x.From))
		if to := toUint(x.To); to != ^uint32(0) {
			points = append(points, to+1)
		}
	}
	for _, x := range ranges(agents) {
		add(x)
	}
	for p := range r.src.All() {
		add(AddrRange{p.Addr(), last(p)})
	}
	for _, x := range internetRanges {
		add(x)
	}
	slices.Sort(points)
	points = slices.Compact(points)

	type kind struct {
		set      uint32
		internet bool
	}
	var order []kind
	atoms := map[kind][]AddrRange{}
	for i, from := range points {
		a := fromUint(from)
		if !r.governs(a) {
			continue
		}
		to := ^uint32(0)
		if i+1 < len(points) {
			to = points[i+1] - 1
		}
		id, _ := r.src.Lookup(a)
		k := kind{id, IsInternet(a)}
		if atoms[k] == nil {
			order = append(order, k)
		}
		atoms[k] = append(atoms[k], AddrRange{a, fromUint(to)})
	}
	out := make([][]AddrRange, len(order))
	for i, k := range order {
		out[i] = mergeRanges(atoms[k])
	}
	return out
}

// portAtoms groups protocols and ports by the rules that apply to them.
func (r *Ruleset) portAtoms() [][]PortRange {
	protos := make([]Proto, 0, len(r.protoPorts))
	for p := range r.protoPorts {
		protos = append(protos, p)
	}
	slices.Sort(protos)
	var out [][]PortRange
	for _, proto := range protos {
		out = append(out, r.atomsOf(proto)...)
	}
	return append(out, []PortRange{{Proto: ProtoOther}})
}

func (r *Ruleset) atomsOf(proto Proto) [][]PortRange {
	t := r.protoPorts[proto]
	if !proto.HasPorts() {
		return [][]PortRange{{{Proto: proto}}}
	}
	starts := slices.Clone(t.starts)
	cut := func(lo, hi uint16) {
		starts = append(starts, lo)
		if hi < 65535 {
			starts = append(starts, hi+1)
		}
	}
	for _, p := range []uint16{portDNS, portDoT, portTLS} {
		cut(p, p)
	}
	for _, p := range r.namePorts {
		cut(p.Lo, p.Hi)
	}
	slices.Sort(starts)
	starts = slices.Compact(starts)

	type kind struct {
		set            uint32
		names, refused bool
	}
	var order []kind
	atoms := map[kind][]PortRange{}
	for i, lo := range starts {
		hi := uint16(65535)
		if i+1 < len(starts) {
			hi = starts[i+1] - 1
		}
		k := kind{t.lookup(lo), r.isNamePort(proto, lo), refusedPort(proto, lo)}
		if atoms[k] == nil {
			order = append(order, k)
		}
		atoms[k] = append(atoms[k], PortRange{proto, lo, hi})
	}
	var out [][]PortRange
	for _, k := range order {
		if !k.refused {
			out = append(out, mergePorts(atoms[k]))
		}
	}
	return out
}
