package server

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/gateway/packet"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

const forwardRuleset = `
version: 1
mode: enforce
default: {action: DENY, mode: enforce}
smartGroups:
  - {name: agents, cidrs: [10.20.1.0/24]}
  - {name: infra, cidrs: [%s]}
rules:
  - {name: allow-infra, priority: 1, sources: [agents], destinations: [infra], action: PERMIT}
`

func forwarding(t *testing.T, infra string) *policy.Ruleset {
	t.Helper()
	doc, err := policy.Decode(fmt.Appendf(nil, forwardRuleset, infra))
	if err != nil {
		t.Fatal(err)
	}
	rules, err := policy.Compile(doc, policy.Environment{Agents: []netip.Prefix{netip.MustParsePrefix("10.20.1.0/24")}})
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

// TestWithdrawnOnce: a forwarded flow that a new ruleset ends has one end in the audit, with
// its bytes and the verdict that ended it; one that outlives the attempt ends as permitted.
func TestWithdrawnOnce(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "audit.jsonl")
	log, err := audit.New(audit.Options{File: file, State: dir, Reserve: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{audit: log, log: hclog.NewNullLogger(), auditFaults: newTerse(time.Now), unwritten: make(chan struct{}, 1), ledger: newLedger()}
	before, after := forwarding(t, "100.64.0.0/11"), forwarding(t, "100.96.0.0/16")
	s.rules.Store(before)
	conn := func(port uint16) packet.Conn {
		return packet.Conn{Src: netip.AddrPortFrom(netip.MustParseAddr("10.20.1.20"), port), Dst: netip.MustParseAddrPort("100.64.0.9:443"), Proto: policy.TCP}
	}
	s.forwardedOpen(conn(1), "")
	s.forwardedOpen(conn(2), "")
	s.rules.Store(after)
	for range 2 { // the kernel may have to be asked again
		if s.keep(after)(conn(1)) || s.keep(after)(conn(2)) {
			t.Fatal("a flow that nothing permits may go on")
		}
	}
	s.forwardedClose(packet.Flow{Conn: conn(1), BytesOut: 7, BytesIn: 9}, "")
	s.rules.Store(before)
	if !s.keep(before)(conn(2)) {
		t.Fatal("a permitted flow may not go on")
	}
	s.forwardedClose(packet.Flow{Conn: conn(2)}, "")
	if len(s.ledger.open)+len(s.ledger.withdrawn) > 0 {
		t.Errorf("left over: %+v", &s.ledger)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var ends []audit.Event
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var e audit.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		if e.ClassUID == audit.NetworkActivity && e.ActivityID == int(audit.Close) {
			ends = append(ends, e)
		}
	}
	const allowed, denied = 1, 2
	if len(ends) != 2 || ends[0].ActionID != denied || ends[0].Traffic == nil || ends[0].Traffic.BytesOut != 7 || ends[1].ActionID != allowed {
		t.Errorf("%+v", ends)
	}
}
