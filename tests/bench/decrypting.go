package main

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/bulkhead-dev/bulkhead/tests/bench/load"
)

// What decrypts, each on a path of its own.
const (
	decrypting = "bulkhead, decrypting"
	manyURLs   = "bulkhead, 1,000 URL rules"
	squidBump  = "squid, bumping"
	mitmproxy  = "mitmproxy"
	sslsplit   = "sslsplit"
)

var (
	decrypters = []string{decrypting, squidBump, mitmproxy, sslsplit}
	// withHTTP2 are those that speak HTTP/2 to agents.
	withHTTP2 = []string{decrypting, mitmproxy}

	//go:embed peers/squid-bump.conf
	squidBumpConfig string
	//go:embed decrypting.yaml
	decryptingRuleset string
)

// cachedName is the name of every load but the one of new names.
const cachedName = "cached." + load.WebName

// urlRules is how many rules the gateway may have without being slower.
const urlRules = 1000

// decryptingRules is a ruleset of n rules about URLs: the last permits the benchmark's requests,
// and all above it are about the same host, so each has to be looked at.
func (p *path) decryptingRules(n int) string {
	var groups, rules strings.Builder
	for i := 1; i < n; i++ {
		fmt.Fprintf(&groups, "  - {name: other-%d, urls: [{host: \"*.%s\", methods: [GET], paths: [/other/%d/**]}]}\n", i, load.WebName, i)
		fmt.Fprintf(&rules, "  - {name: allow-other-%d, priority: %d, sources: [agents], webGroups: [other-%d], ports: [tcp/443], action: PERMIT, decrypt: DECRYPT_ALLOWED}\n", i, i, i)
	}
	pem := strings.ReplaceAll(strings.TrimSpace(string(p.trust.pem())), "\n", "\n      ") // as deep as the word
	return strings.NewReplacer("AGENTS", p.agents.String(), "ORIGIN-CA", pem, "LAST", fmt.Sprint(n),
		"  OTHER-GROUPS\n", groups.String(), "  OTHER-RULES\n", rules.String()).Replace(decryptingRuleset)
}

// startDecrypting starts the gateway with a root whose key is in a file.
func (p *path) startDecrypting(binary string, rules int) error {
	if out, err := exec.Command(binary, "ca", "init", "--dir", p.dir, "--name", "Benchmark").CombinedOutput(); err != nil {
		return fmt.Errorf("bulkhead ca init: %w: %s", err, out)
	}
	if err := os.WriteFile(filepath.Join(p.dir, "ruleset.yaml"), []byte(p.decryptingRules(rules)), 0o644); err != nil {
		return err
	}
	return p.configureBulkhead(binary, map[string]any{
		"ca": map[string]any{"file": filepath.Join(p.dir, "root.crt"), "keyFile": filepath.Join(p.dir, "root.key")},
	})
}

// signing writes what a peer signs its certificates with, and whom it trusts in origins.
func (p *path) signing(file string) (trusted string, err error) {
	ca, err := newAuthority(p.name)
	if err != nil {
		return "", err
	}
	if err := ca.write(file); err != nil {
		return "", err
	}
	trusted = filepath.Join(p.dir, "origins.pem")
	return trusted, os.WriteFile(trusted, p.trust.pem(), 0o644)
}

func (p *path) startSquidBump() error {
	file, err := p.fill("squid.conf", squidBumpConfig)
	if err != nil {
		return err
	}
	if _, err := p.signing(filepath.Join(p.dir, "squid.pem")); err != nil {
		return err
	}
	// Its helpers keep certificates on disk, and squid leaves root.
	db := filepath.Join(p.dir, "certificates")
	for _, args := range [][]string{{"/usr/lib/squid/security_file_certgen", "-c", "-s", db, "-M", "64MB"}, {"chown", "-R", "proxy", db}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", args[0], err, out)
		}
	}
	if err := p.redirect(); err != nil {
		return err
	}
	return p.run("/usr/sbin/squid", "-N", "-n", squidService()+"bump", "-f", file)
}

func (p *path) startMitmproxy() error {
	// Its default, made at its first start, is RSA; with P-256 it signs as the others do.
	trusted, err := p.signing(filepath.Join(p.dir, "mitmproxy-ca.pem"))
	if err != nil {
		return err
	}
	if err := p.redirect(); err != nil {
		return err
	}
	return p.run("mitmdump", append([]string{"--set", "confdir=" + p.dir, "--set", "ssl_verify_upstream_trusted_ca=" + trusted,
		"--listen-port", fmt.Sprint(proxyPort)}, mitmproxyOptions...)...)
}

// mitmproxyOptions stream long answers instead of keeping them, and print nothing.
var mitmproxyOptions = []string{"--mode", "transparent", "--set", "stream_large_bodies=64k", "--set", "flow_detail=0", "--quiet"}

func (p *path) startSSLsplit() error {
	file := filepath.Join(p.dir, "sslsplit.pem")
	trusted, err := p.signing(file)
	if err != nil {
		return err
	}
	if err := p.redirect(); err != nil {
		return err
	}
	// It has no option for whom it trusts: OpenSSL reads the variable.
	args := append([]string{"SSL_CERT_FILE=" + trusted, "sslsplit", "-k", file, "-c", file, "-K", file, "-p", filepath.Join(p.dir, "pid")}, sslsplitOptions...)
	return p.run("env", append(args, "ssl", "0.0.0.0", fmt.Sprint(proxyPort))...)
}

// sslsplitOptions verify the origin, and leave root alone.
var sslsplitOptions = []string{"-o", "VerifyPeer=yes", "-u", "root"}
