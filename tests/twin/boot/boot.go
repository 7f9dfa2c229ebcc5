package boot

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"

	"github.com/miekg/dns"

	"github.com/bulkhead-dev/bulkhead/tests/lab"
	"github.com/bulkhead-dev/bulkhead/tests/twin/front"
)

// Options are what a state does not hold.
type Options struct {
	State State
	// Front has the data planes: storage accounts and vaults. Machines reach it under their names.
	Front *front.Front
	// Tokens is the metadata service of the machine with an id, as far as tokens go.
	Tokens func(machine string) (http.Handler, error)
	// Wait has Up return when the gateway is ready, not when it was started.
	Wait bool
	// Progress is told what is being done; nil is fine.
	Progress func(string)
}

// Up boots a state. ctx bounds the building; Down of the lab ends it. lab.Enter must have been
// called.
func Up(ctx context.Context, opt Options) (*lab.Lab, error) {
	say := opt.Progress
	if say == nil {
		say = func(string) {}
	}
	r, err := opt.State.read()
	if err != nil {
		return nil, fmt.Errorf("boot: %w", err)
	}
	p, err := r.plan()
	if err != nil {
		return nil, fmt.Errorf("boot: %w", err)
	}
	userData := deref(r.machines[p.gateway].Properties.UserData)
	config, _, err := parseUserData(userData)
	if err != nil {
		return nil, fmt.Errorf("boot: %s: %w", name(p.gateway), err)
	}
	tokens, err := opt.Tokens(p.gateway)
	if err != nil {
		return nil, fmt.Errorf("boot: %s: %w", name(p.gateway), err)
	}
	p.network.NextHop = p.network.Machine(lab.Gateway)
	l, err := lab.Up(ctx, lab.Options{Network: p.network, Gateway: "/usr/bin/bulkhead", Idle: true, Progress: say})
	if err != nil {
		return nil, err
	}
	for _, step := range []struct {
		say string
		do  func() error
	}{
		{"storage accounts and vaults, under Azure's names", func() error { return serveAzure(l, opt.Front) }},
		{"cloud-init: the files of the machine's user data", func() error {
			l.Sites[lab.Platform].Handle(lab.Metadata.String(), instance(p.network.NextHop, userData, tokens))
			roots, err := os.ReadFile(opt.Front.CAFile())
			if err != nil {
				return err
			}
			return prepare(l.Host(lab.Gateway), config, slices.Concat(roots, l.CA.PEM))
		}},
		{"bulkhead-setup: the release, with the machine's own identity", func() error { return setUp(ctx, l.Host(lab.Gateway), say) }},
		{"bulkhead-lockdown.service and bulkhead.service", func() error { return start(ctx, l) }},
	} {
		say(step.say)
		if err := step.do(); err != nil {
			return nil, errors.Join(fmt.Errorf("boot: %s: %w", step.say, err), l.Down())
		}
	}
	if opt.Wait {
		if err := l.Process.WaitReady(ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("boot: %w", err), l.Down())
		}
	}
	return l, nil
}

// serveAzure puts the data planes where Azure's resolver says that they are.
func serveAzure(l *lab.Lab, f *front.Front) error {
	for suffix, addr := range map[string]netip.Addr{"blob.core.windows.net": storageAddr, "vault.azure.net": vaultAddr} {
		if err := l.Upstream.Add("*." + dns.Fqdn(suffix) + " 60 IN A " + addr.String()); err != nil {
			return err
		}
		listener, err := l.Host(Azure).Listen(net.JoinHostPort(addr.String(), "443"))
		if err != nil {
			return err
		}
		f.Serve(listener)
	}
	return nil
}
