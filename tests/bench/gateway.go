package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/bulkhead-dev/bulkhead/tests/bench/load"
)

//go:embed ruleset.yaml
var ruleset string

const (
	// manyPrefixes is how many prefixes an address permit may hold and still has to cost
	// nothing.
	manyPrefixes = 100_000
	// feedSize is about that of a public feed of attackers.
	feedSize = 20_000

	adminAddr = "127.0.0.1:9180"
)

// writeRuleset writes the ruleset; note is a comment, so that two of them differ
// in nothing else but their version.
func (p *path) writeRuleset(prefixes int, spare string) error {
	list := []string{spare}
	if prefixes > 0 {
		list = append(list, p.origin.String())
	}
	// Every other address, so that no two of them can be merged.
	for i := uint32(1); len(list) < prefixes; i++ {
		list = append(list, netip.AddrFrom4([4]byte{66, byte(i >> 15), byte(i >> 7), byte(i << 1)}).String()+"/32")
	}
	text := strings.NewReplacer("AGENTS", p.agents.String(), "PREFIXES", strings.Join(list, ", "), "FEEDS", p.feeds()).Replace(ruleset)
	file := filepath.Join(p.dir, "ruleset.yaml")
	if err := os.WriteFile(file+".new", []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// feeds is a directory of its own: the gateway reads the ruleset again when anything in it
// changes, and beside the audit that is after every event.
func (p *path) feeds() string { return filepath.Join(p.dir, "feeds") }

// startBulkhead configures the gateway as its documentation says; only the bounds on
// what one agent may have open are raised, because here one agent stands for many.
func (p *path) startBulkhead(binary string, prefixes int) error {
	if err := p.writeRuleset(prefixes, "66.255.0.0/24"); err != nil {
		return err
	}
	var feed strings.Builder
	for i := range uint32(feedSize) {
		fmt.Fprintln(&feed, netip.AddrFrom4([4]byte{185, byte(i >> 16), byte(i >> 8), byte(i)}))
	}
	if err := os.MkdirAll(p.feeds(), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(p.feeds(), "ipsum.netset"), []byte(feed.String()), 0o644); err != nil {
		return err
	}
	return p.configureBulkhead(binary, nil)
}

// configureBulkhead writes the gateway's configuration, with more in it than every path has, and
// starts it.
func (p *path) configureBulkhead(binary string, more map[string]any) error {
	p.resolver = netip.AddrPortFrom(p.listen, 53)
	config := map[string]any{
		"policy": map[string]any{"file": filepath.Join(p.dir, "ruleset.yaml")},
		"agents": []string{p.agents.String()},
		"dns":    map[string]any{"listen": p.resolver.String(), "upstream": []string{load.Nameserver(p.origin).String()}},
		"feeds":  map[string]any{"dir": p.feeds()},
		"audit":  map[string]any{"file": filepath.Join(p.dir, "audit.jsonl")},
		"admin":  map[string]any{"listen": adminAddr},
		"state":  map[string]any{"dir": filepath.Join(p.dir, "state")},
		"limits": map[string]any{"flows": 20000, "flowsPerSource": 20000},
	}
	maps.Copy(config, more)
	data, err := yaml.Marshal(config)
	if err != nil {
		return err
	}
	file := filepath.Join(p.dir, "gateway.yaml")
	if err := os.WriteFile(file, data, 0o644); err != nil {
		return err
	}
	return p.run(binary, "gateway", "--config", file)
}

// readiness is what the benchmark reads of /readyz.
type readiness struct {
	Ready   bool   `json:"ready"`
	Why     string `json:"why"`
	Ruleset struct {
		Digest string `json:"digest"`
		Error  string `json:"error"`
	} `json:"ruleset"`
}

func (p *path) readiness(ctx context.Context) (r readiness, err error) {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
			err = p.gateway.do(func() (err error) {
				conn, err = (&net.Dialer{}).DialContext(ctx, network, addr)
				return err
			})
			return conn, err
		}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+adminAddr+"/readyz", nil)
	if err != nil {
		return r, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return r, err
	}
	defer resp.Body.Close()
	return r, json.NewDecoder(resp.Body).Decode(&r)
}

// until polls /readyz until it says what is wanted.
func (p *path) until(ctx context.Context, wanted func(readiness) bool) error {
	for tick := time.NewTicker(5 * time.Millisecond); ; {
		r, err := p.readiness(ctx)
		if err == nil && wanted(r) {
			return nil
		}
		select {
		case <-p.program.exited:
			return fmt.Errorf("the gateway has ended: %s", p.program.tail())
		case <-ctx.Done():
			return fmt.Errorf("the gateway is not there yet: %+v, %v: %s", r, err, p.program.tail())
		case <-tick.C:
		}
	}
}
