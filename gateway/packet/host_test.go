package packet

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
)

func TestKnob(t *testing.T) {
	root := t.TempDir()
	for _, name := range []string{"all", "eth0"} {
		if err := os.MkdirAll(filepath.Join(root, "conf", name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, "conf", name, "send_redirects"), []byte("1\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := (knob{path: "conf/*/send_redirects", value: "0"}).set(root); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"all", "eth0"} {
		if b, _ := os.ReadFile(filepath.Join(root, "conf", name, "send_redirects")); string(b) != "0" {
			t.Errorf("%s: %q", name, b)
		}
	}
	err := knob{path: "nothing", value: "1"}.set(root)
	if err == nil || !strings.Contains(err.Error(), filepath.Join(root, "nothing")) {
		t.Errorf("a missing setting: %v", err)
	}
}

// TestHost: forwarding is off until the program is in force, and on afterwards; opening
// again changes nothing.
func TestHost(t *testing.T) {
	if !namespaced(t) {
		return
	}
	read := func(path string) string {
		b, err := os.ReadFile("/proc/sys/net/" + path)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(b))
	}
	l := newLab(t, 1)
	if err := Lockdown(labConfig()); err != nil {
		t.Fatal(err)
	}
	if read("ipv4/ip_forward") != "0" {
		t.Error("lockdown turned forwarding on")
	}
	for range 2 {
		l.open(labConfig()).Close()
	}
	for path, want := range map[string]string{
		"ipv4/ip_forward": "1", "ipv4/conf/all/send_redirects": "0", "ipv4/conf/eth0/send_redirects": "0",
		"ipv4/conf/default/send_redirects": "0", "ipv4/conf/all/accept_redirects": "0",
		"ipv6/conf/all/forwarding": "0", "netfilter/nf_conntrack_acct": "1",
	} {
		if got := read(path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	rules, err := netlink.RuleList(netlink.FAMILY_V4)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, r := range rules {
		if r.Table == routeTable && r.Mark == redirectMark {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d rules lead to table %d", n, routeTable)
	}
}

// TestForeignTable: what another version left, with other hooks, is replaced.
func TestForeignTable(t *testing.T) {
	if !namespaced(t) {
		return
	}
	c, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	policy := nftables.ChainPolicyAccept
	c.AddChain(&nftables.Chain{
		Table: c.AddTable(kernelTable()), Name: "forward", Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityRef(7), Policy: &policy,
	})
	if err := c.AddSet(&nftables.Set{Table: kernelTable(), Name: setGate, KeyType: nftables.TypeIPAddr}, nil); err != nil {
		t.Fatal(err)
	}
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	cfg, err := labConfig().withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	p := build(&cfg, labTable())
	for range 2 {
		if err := p.install(); err != nil {
			t.Fatal(err)
		}
		now, err := listing(c)
		if err != nil {
			t.Fatal(err)
		}
		if !p.fits(now) || len(now.chains) != len(p.chains) || len(now.sets) != len(p.sets) {
			t.Errorf("%d chains and %d sets are loaded, of %d and %d", len(now.chains), len(now.sets), len(p.chains), len(p.sets))
		}
	}
}
