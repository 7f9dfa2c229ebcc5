package pin

import (
	"os"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// TestMetrics holds the README to what is exported, and the labels to sets that
// agents cannot grow.
func TestMetrics(t *testing.T) {
	r := newRig(t, compile(t, ruleset, environment()), policy.ScopeSource)
	r.up.zone = zone()
	r.query(t, "10.20.1.4", "api.example.org", dns.TypeA)
	r.query(t, "10.20.1.4", "rebind.wild.example.org", dns.TypeA)
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "coredns_pin_") {
			continue
		}
		n++
		if !strings.Contains(string(readme), "`"+f.GetName()) {
			t.Errorf("%s is not in the README", f.GetName())
		}
		for _, l := range f.GetMetric()[0].GetLabel() {
			if !strings.Contains("server verdict reason", l.GetName()) {
				t.Errorf("%s has the label %s", f.GetName(), l.GetName())
			}
		}
	}
	if want := strings.Count(string(readme), "`coredns_pin_"); n != want {
		t.Errorf("%d metrics are exported, the README has %d", n, want)
	}
}
