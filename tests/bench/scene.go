package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/bulkhead-dev/bulkhead/tests/bench/load"
)

const (
	roleClient = "client"
	roleOrigin = "origin"
)

// scene is everything that runs: agents, origin and the gateways between them.
type scene struct {
	agent, origin *host
	paths         map[string]*path
	order         []*path
	client        *client
	server        *program
	bulkhead      string // the binary
}

func newScene(ctx context.Context, dir string) (*scene, error) {
	s := &scene{paths: map[string]*path{}}
	var err error
	if s.bulkhead, err = build(ctx, dir, "github.com/bulkhead-dev/bulkhead/gateway/cmd/bulkhead"); err != nil {
		return nil, err
	}
	stock, err := build(ctx, dir, "github.com/bulkhead-dev/bulkhead/tests/bench/stockdns")
	if err != nil {
		return nil, err
	}
	say("laying cables")
	if s.agent, err = newHost("agents"); err != nil {
		return nil, err
	}
	if s.origin, err = newHost("origin"); err != nil {
		return nil, err
	}
	trust, err := newAuthority("Origins of the benchmark")
	if err != nil {
		return nil, err
	}
	webCert := filepath.Join(dir, "web.pem")
	cert, key, err := trust.issue("*."+load.WebName, load.WebName)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(webCert, append(cert, key...), 0o600); err != nil {
		return nil, err
	}
	args := []string{roleOrigin, webCert}
	for i, name := range pathNames {
		p, err := newPath(i, name, s.agent, s.origin, dir)
		if err != nil {
			return nil, err
		}
		if err := os.Mkdir(p.dir, 0o755); err != nil {
			return nil, err
		}
		if err := os.Chmod(p.dir, 0o777); err != nil { // squid leaves root and writes here
			return nil, err
		}
		p.trust = trust
		s.paths[name] = p
		s.order = append(s.order, p)
		args = append(args, p.origin.String())
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	if s.server, err = s.origin.start(filepath.Join(dir, "origin.log"), self, args...); err != nil {
		return nil, err
	}
	if s.client, err = startClient(s.agent, self); err != nil {
		return nil, errors.Join(err, s.close())
	}
	if err := s.startAll(ctx, stock); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// startAll starts every gateway and sees that each lets a connection through.
func (s *scene) startAll(ctx context.Context, stock string) error {
	start := map[string]func(*path) error{
		direct:     func(p *path) error { return p.forward(false) },
		masquerade: func(p *path) error { return p.forward(true) },
		bulkhead:   func(p *path) error { return p.startBulkhead(s.bulkhead, 0) },
		byAddress:  func(p *path) error { return p.startBulkhead(s.bulkhead, manyPrefixes) },
		haproxy:    (*path).startHAProxy,
		nginx:      (*path).startNginx,
		squid:      (*path).startSquid,
		stockDNS:   func(p *path) error { return p.startCoreDNS(stock) },
		dnsmasq:    (*path).startDNSMasq,
		decrypting: func(p *path) error { return p.startDecrypting(s.bulkhead, 1) },
		manyURLs:   func(p *path) error { return p.startDecrypting(s.bulkhead, urlRules) },
		squidBump:  (*path).startSquidBump,
		mitmproxy:  (*path).startMitmproxy,
		sslsplit:   (*path).startSSLsplit,
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for _, p := range s.order {
		say("starting %s", p.name)
		if err := start[p.name](p); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		if p.resolver.IsValid() {
			if err := p.until(ctx, func(r readiness) bool { return r.Ready }); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
		}
		if err := s.try(p); err != nil {
			return fmt.Errorf("%s does not work: %w: %s", p.name, err, p.said())
		}
	}
	return nil
}

func (p *path) said() string {
	if p.program == nil {
		return "the kernel says nothing"
	}
	return p.program.tail()
}

// try has one of each thing that is measured on a path done once.
func (s *scene) try(p *path) error {
	if p.name == stockDNS || p.name == dnsmasq {
		p := *p
		p.resolver = p.dns()
		deadline := time.Now().Add(10 * time.Second)
		for {
			_, err := s.client.do(p.job(load.Resolve, load.RawName))
			if err == nil || time.Now().After(deadline) {
				return err
			}
			time.Sleep(20 * time.Millisecond) // it may not listen yet
		}
	}
	if p.decrypts() {
		return s.tryDecrypting(p)
	}
	for _, name := range []string{load.RawName, load.TLSName, load.BulkName} {
		if err := s.prepare(p, name); err != nil {
			return err
		}
		job := p.job(load.First, name)
		job.Duration = 10 * time.Second
		if p.name == byAddress {
			job.Port = load.AddressPort
		}
		if name != load.RawName {
			job.Kind, job.Workers, job.Duration = load.TLS, 1, 20*time.Millisecond
		}
		if name == load.BulkName {
			job.Kind = load.Bulk
		}
		r, err := s.client.do(job)
		if err != nil {
			return err
		}
		if job.Kind != load.First && r.Errors > 0 {
			return fmt.Errorf("%s: %s", name, r.Why)
		}
	}
	return nil
}

// prepare has the agents of a path resolve a name, where the path asks for that.
func (s *scene) prepare(p *path, name string) error {
	if !p.resolver.IsValid() {
		return nil
	}
	_, err := s.client.do(p.job(load.Resolve, name))
	return err
}

// close ends the programs. The namespaces end with this process.
func (s *scene) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	var errs []error
	if s.client != nil {
		errs = append(errs, s.client.close())
	}
	for _, p := range s.order {
		if p.program != nil {
			errs = append(errs, p.program.stop(ctx))
		}
	}
	if s.server != nil {
		errs = append(errs, s.server.stop(ctx))
	}
	return errors.Join(append(errs, forgetSquid())...)
}

// client is the process that plays the agents.
type client struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	enc *json.Encoder
	dec *json.Decoder
}

func startClient(h *host, self string) (*client, error) {
	cmd := h.command(self, roleClient)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := h.do(cmd.Start); err != nil {
		return nil, err
	}
	return &client{cmd: cmd, in: in, enc: json.NewEncoder(in), dec: json.NewDecoder(out)}, nil
}

// do has the client do one job.
func (c *client) do(job load.Job) (r load.Result, err error) {
	if err := c.enc.Encode(job); err != nil {
		return r, fmt.Errorf("the agents' process has ended: %w", err)
	}
	if err := c.dec.Decode(&r); err != nil {
		return r, fmt.Errorf("the agents' process has ended: %w", err)
	}
	if r.Error != "" {
		return r, errors.New(r.Error)
	}
	return r, nil
}

func (c *client) close() error {
	c.in.Close()
	return c.cmd.Wait()
}
