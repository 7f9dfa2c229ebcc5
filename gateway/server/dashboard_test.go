package server

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the names of all that there are.
func metrics() map[string]bool {
	known := map[string]bool{}
	descs := make(chan *prometheus.Desc, 1024)
	prometheus.DefaultRegisterer.(*prometheus.Registry).Describe(descs)
	close(descs)
	fq := regexp.MustCompile(`fqName: "([^"]+)"`)
	for d := range descs {
		known[fq.FindStringSubmatch(d.String())[1]] = true
	}
	return known
}

// TestMetricsAreDocumented holds the page for operators to the gateway's own metrics.
func TestMetricsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for name := range metrics() {
		if strings.HasPrefix(name, "bulkhead_") {
			n++
			if !strings.Contains(string(page), "\n| `"+name) {
				t.Errorf("%s is not in docs/operations.md", name)
			}
		}
	}
	if n == 0 {
		t.Error("no metrics")
	}
}

// TestDashboard holds the Grafana dashboard to metrics that exist.
func TestDashboard(t *testing.T) {
	data, err := os.ReadFile("../../docs/grafana/bulkhead.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct{ Targets []struct{ Expr string } }
	}
	if err := json.Unmarshal(data, &board); err != nil {
		t.Fatal(err)
	}
	known := metrics()
	metric := regexp.MustCompile(`\b(bulkhead|coredns|process)_[a-z_]+`)
	n := 0
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			for _, name := range metric.FindAllString(target.Expr, -1) {
				n++
				base := regexp.MustCompile(`_bucket$`).ReplaceAllString(name, "")
				if !known[base] {
					t.Errorf("%s: no such metric", name)
				}
			}
		}
	}
	if n == 0 {
		t.Error("the dashboard shows nothing")
	}
}
