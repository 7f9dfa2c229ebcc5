package packet

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// program is one nftables table: sets, and chains of rules over them. It has two
// renderings, String for people and install for the kernel; a test loads both and
// compares what the kernel lists.
type program struct {
	sets   []*set
	chains []*chain
}

// size is the number of its rules.
func (p *program) size() (n int) {
	for _, c := range p.chains {
		n += len(c.rules)
	}
	return n
}

// set is a named set. Either ranges or elements are its content.
type set struct {
	name     string
	key      []nftables.SetDatatype // one type, or the parts of a concatenation
	ranges   []policy.AddrRange     // of an interval set of addresses
	interval bool
	elements []element
	// timeout lets elements lapse; each may carry its own.
	timeout time.Duration
	// dynamic lets rules add elements.
	dynamic bool
	size    uint32
	// kept sets hold state: a reload leaves their elements alone. Others never change.
	kept bool
}

// hash is eight hex digits of a digest of the content.
func (s *set) hash() string {
	h := sha256.New()
	fmt.Fprint(h, s.keyType().Name, s.interval)
	for _, r := range s.ranges {
		from, to := r.From.As4(), r.To.As4()
		h.Write(append(from[:], to[:]...))
	}
	for _, e := range s.elements {
		h.Write(e.key)
	}
	return hex.EncodeToString(h.Sum(nil)[:4])
}

// element is one member of a set, in both renderings.
type element struct {
	text string
	key  []byte
}

// chain is a list of rules; with a hook, the kernel starts it for every packet.
type chain struct {
	name  string
	hook  *hook
	rules []rule
}

// hook says where in the packet's way a base chain stands.
type hook struct {
	kind     nftables.ChainType
	point    *nftables.ChainHook
	name     string
	priority nftables.ChainPriority
	accept   bool // what becomes of a packet that no rule decided
}

type rule []term

// term is one condition or statement, in both renderings.
type term struct {
	text  string
	exprs []expr.Any
	// ipv4 says that the expressions read an IPv4 header. In a table of family inet
	// they must not be run on anything else.
	ipv4 bool
}

func (c *chain) add(terms ...term) { c.rules = append(c.rules, terms) }

// exprs is the rule for the kernel.
func (r rule) exprs() []expr.Any {
	var out []expr.Any
	guarded := false
	for _, t := range r {
		if t.ipv4 && !guarded {
			guarded = true
			out = append(out, isIPv4.exprs...)
		}
		out = append(out, t.exprs...)
	}
	return out
}

// String is the program in the syntax of nft(8).
func (p *program) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s {\n", tableName)
	for _, s := range p.sets {
		s.write(&b)
	}
	for i, c := range p.chains {
		if i > 0 {
			b.WriteByte('\n')
		}
		c.write(&b)
	}
	b.WriteString("}\n")
	return b.String()
}

func (s *set) write(b *strings.Builder) {
	names := make([]string, len(s.key))
	for i, k := range s.key {
		names[i] = k.Name
	}
	fmt.Fprintf(b, "\tset %s {\n\t\ttype %s\n", s.name, strings.Join(names, " . "))
	if s.size > 0 {
		fmt.Fprintf(b, "\t\tsize %d\n", s.size)
	}
	var flags []string
	if s.interval {
		flags = append(flags, "interval")
	}
	if s.dynamic {
		flags = append(flags, "dynamic")
	}
	if s.timeout > 0 {
		flags = append(flags, "timeout")
	}
	if len(flags) > 0 {
		fmt.Fprintf(b, "\t\tflags %s\n", strings.Join(flags, ","))
	}
	if s.timeout > 0 {
		fmt.Fprintf(b, "\t\ttimeout %s\n", seconds(s.timeout))
	}
	var items []string
	for _, r := range s.ranges {
		items = append(items, rangeText(r))
	}
	for _, e := range s.elements {
		items = append(items, e.text)
	}
	if len(items) > 0 {
		fmt.Fprintf(b, "\t\telements = { %s }\n", strings.Join(items, ", "))
	}
	b.WriteString("\t}\n\n")
}

func (c *chain) write(b *strings.Builder) {
	fmt.Fprintf(b, "\tchain %s {\n", c.name)
	if h := c.hook; h != nil {
		verdict := "drop"
		if h.accept {
			verdict = "accept"
		}
		fmt.Fprintf(b, "\t\ttype %s hook %s priority %d; policy %s;\n", h.kind, h.name, h.priority, verdict)
	}
	for _, r := range c.rules {
		words := make([]string, len(r))
		for i, t := range r {
			words[i] = t.text
		}
		fmt.Fprintf(b, "\t\t%s\n", strings.Join(words, " "))
	}
	b.WriteString("\t}\n")
}

func seconds(d time.Duration) string { return fmt.Sprintf("%ds", int(d/time.Second)) }
