package server

import (
	"slices"
	"testing"

	"github.com/bulkhead-dev/bulkhead/gateway/config"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// TestConcerns: what is read again when it changes. Files that the gateway itself writes must
// not be among it, even where they lie beside the ruleset.
func TestConcerns(t *testing.T) {
	s := &Server{cfg: &config.Config{
		Policy:      config.Policy{File: "/etc/bulkhead/ruleset.yaml"},
		Feeds:       config.Feeds{Dir: "/var/lib/bulkhead/feeds/"},
		ServiceTags: config.ServiceTags{File: "/etc/bulkhead/tags.json"},
	}}
	if dirs := s.watchedDirs(); !slices.Equal(dirs, []string{"/etc/bulkhead", "/var/lib/bulkhead/feeds"}) {
		t.Errorf("%q", dirs)
	}
	for changed, want := range map[string]bool{
		"/etc/bulkhead/ruleset.yaml":       true,
		"/etc/bulkhead/..data":             true, // as Kubernetes replaces mounted files
		"/etc/bulkhead/tags.json":          true,
		"/var/lib/bulkhead/feeds/ipsum.ip": true,
		"/etc/bulkhead/gateway.yaml":       false,
		"/etc/bulkhead/pins.123":           false,
		"/etc/bulkhead/ruleset.yaml~":      false,
	} {
		if got := s.concerns(changed); got != want {
			t.Errorf("%s: %v", changed, got)
		}
	}
	doc, err := policy.Decode([]byte(`{version: 1, threatGroups: [{name: bad, feeds: [{name: ipsum, format: netset, url: "file:ipsum"}]}],
		rules: [{name: deny, priority: 1, destinations: [bad], action: DENY}]}`))
	if err != nil {
		t.Fatal(err)
	}
	rules, err := policy.Compile(doc, policy.Environment{})
	if err != nil {
		t.Fatal(err)
	}
	s.rules.Store(rules)
	for changed, want := range map[string]bool{"ipsum": true, "ipsum.netset": true, "audit.jsonl": false, "ipsum.netset.tmp": false, "ipsum.fetched": false} {
		if got := s.concerns("/var/lib/bulkhead/feeds/" + changed); got != want {
			t.Errorf("%s among the feeds: %v", changed, got)
		}
	}
	bare := &Server{cfg: &config.Config{Policy: config.Policy{File: "ruleset.yaml"}}}
	if !slices.Equal(bare.watchedDirs(), []string{"."}) || !bare.concerns("./ruleset.yaml") || bare.concerns("pins") {
		t.Error("a ruleset in the working directory")
	}
}
