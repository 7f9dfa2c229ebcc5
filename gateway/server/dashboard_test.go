package server

import (
	"encoding/json"
	"os"
	"regexp"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

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
	known := map[string]bool{}
	descs := make(chan *prometheus.Desc, 1024)
	prometheus.DefaultRegisterer.(*prometheus.Registry).Describe(descs)
	close(descs)
	fq := regexp.MustCompile(`fqName: "([^"]+)"`)
	for d := range descs {
		known[fq.FindStringSubmatch(d.String())[1]] = true
	}
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
