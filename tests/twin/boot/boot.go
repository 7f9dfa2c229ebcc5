package boot

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"reflect"

	"github.com/miekg/dns"

	"github.com/bulkhead-dev/bulkhead/tests/lab"
	"github.com/bulkhead-dev/bulkhead/tests/twin/front"
)

// Options are what a state does not hold.
type Options struct {
	State State
	// Front has the data planes: storage accounts, vaults, the resource manager, and what else a test gives it. Machines reach
	// it under their names.
	Front *front.Front
	// Tokens is the metadata service of the machine with an id, as far as tokens go.
	Tokens func(machine string) (http.Handler, error)
	// Progress is told what is being done; nil is fine.
	Progress func(string)
}

// Spoke is a state that lives.
type Spoke struct {
	*lab.Lab
}

// Network describes a state's network to the lab. The error is ErrNoGateway while there is no
// machine to boot.
func Network(s State) (*lab.Network, error) {
	p, _, err := s.plan()
	if err != nil {
		return nil, err
	}
	return p.network, nil
}

func (s State) plan() (*plan, *resources, error) {
	r, err := s.read()
	if err != nil {
		return nil, nil, fmt.Errorf("boot: %w", err)
	}
	p, err := r.plan()
	if err != nil {
		return nil, nil, fmt.Errorf("boot: %w", err)
	}
	p.network.NextHop = p.network.Machine(lab.Gateway)
	return p, r, nil
}

// Up boots a state: the network, and the machine that is its gateway, which is started and not waited
// for. ctx bounds the building; Down ends it. lab.Enter must have been called.
func Up(ctx context.Context, opt Options) (*Spoke, error) {
	say := opt.Progress
	if say == nil {
		say = func(string) {}
	}
	p, r, err := opt.State.plan()
	if err != nil {
		return nil, err
	}
	userData := deref(r.machines[p.gateway].Properties.UserData)
	config, err := parseUserData(userData)
	if err != nil {
		return nil, fmt.Errorf("boot: %s: %w", name(p.gateway), err)
	}
	tokens, err := opt.Tokens(p.gateway)
	if err != nil {
		return nil, fmt.Errorf("boot: %s: %w", name(p.gateway), err)
	}
	l, err := lab.Up(ctx, lab.Options{Network: p.network, Gateway: "/usr/bin/bulkhead", Idle: true})
	if err != nil {
		return nil, err
	}
	for _, step := range []struct {
		say string
		do  func() error
	}{
		{"storage accounts and vaults answer under Azure's names", func() error { return errors.Join(l.Upstream.Add(p.records...), serveAzure(l, opt.Front)) }},
		{"cloud-init writes the files of the user data", func() error {
			l.Sites[lab.Platform].Handle(lab.Metadata.String(), instance(p.network.NextHop, userData, tokens))
			return prepare(l, config, opt.Front.CAFile())
		}},
		{"bulkhead-setup fetches the release with the machine's own identity, and checks its digest", func() error { return setUp(ctx, l.Host(lab.Gateway), say) }},
		{"bulkhead-lockdown.service, then bulkhead.service", func() error { return start(ctx, l) }},
	} {
		say(step.say)
		if err := step.do(); err != nil {
			return nil, errors.Join(fmt.Errorf("boot: %s: %w", step.say, err), l.Down())
		}
	}
	return &Spoke{l}, nil
}

// Follow adds the subnets that a state has and the spoke has not yet. What is there may not have
// changed meanwhile: to see that, boot the state anew.
func (s *Spoke) Follow(state State) error {
	want, err := Network(state)
	if err != nil {
		return err
	}
	for _, sub := range want.Subnets {
		here := s.Network().Subnet(sub.Dev)
		switch {
		case here == nil:
			if err := s.Join(sub); err != nil {
				return fmt.Errorf("boot: subnet %s: %w", sub.Dev, err)
			}
		case !reflect.DeepEqual(*here, sub):
			return fmt.Errorf("boot: subnet %s has changed: boot the state anew", sub.Dev)
		}
	}
	return nil
}

// serveAzure puts the data planes where Azure's resolver says that they are.
func serveAzure(l *lab.Lab, f *front.Front) error {
	for name, addr := range map[string]netip.Addr{"*.blob.core.windows.net": storageAddr, "*.vault.azure.net": vaultAddr,
		"management.azure.com": managerAddr, FeedsName: FeedsAddr} {
		if err := l.Upstream.Add(dns.Fqdn(name) + " 60 IN A " + addr.String()); err != nil {
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
