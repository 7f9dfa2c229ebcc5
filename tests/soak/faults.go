package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// The states of the watched rule, as turn modulo 4; what is between them is odd.
const (
	monitored = 0
	enforced  = 2
)

// faults counts what was done to the gateway. Only disturb writes it.
type faults struct {
	reloads, refused, kills, stops int
	slowest                        time.Duration // from a start until everything works
}

// disturb reloads, kills and stops, one after the other. The last third is without restarts.
func (s *soak) disturb(ctx context.Context) {
	reload, kill, stop := time.NewTicker(s.plan.Reload), time.NewTicker(s.plan.Kill), time.NewTicker(s.plan.Stop)
	defer reload.Stop()
	defer kill.Stop()
	defer stop.Stop()
	calm := time.After(s.plan.For * 2 / 3)
	for {
		// A step is not cut off by the end, and bounds itself.
		step := context.WithoutCancel(ctx)
		var err error
		select {
		case <-ctx.Done():
			return
		case <-reload.C:
			err = s.reload(step)
		case <-kill.C:
			err = s.kill(step)
		case <-stop.C:
			err = s.stop(step)
		case <-calm:
			kill.Stop()
			stop.Stop()
			err = s.stop(step)
		}
		if err != nil {
			s.violation("%v", err)
		}
	}
}

func (s *soak) kill(ctx context.Context) error {
	s.faults.kills++
	return s.outage(ctx, func(context.Context) error {
		s.lab.Process.Kill()
		pause := time.NewTimer(time.Second) // agents go on for a while without a gateway
		defer pause.Stop()
		<-pause.C
		return s.trail.killed()
	})
}

func (s *soak) stop(ctx context.Context) error {
	s.faults.stops++
	return s.outage(ctx, s.lab.Process.Stop)
}

// outage ends the gateway, starts it again, and waits until everything works.
func (s *soak) outage(ctx context.Context, end func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute) // a drain takes up to 20 s of it
	defer cancel()
	s.outages.Add(1)
	defer s.outages.Add(1)
	s.health.forget()
	if err := end(ctx); err != nil {
		return err
	}
	began := time.Now()
	if err := s.lab.Process.Start(ctx); err != nil {
		return fmt.Errorf("start again: %w", err)
	}
	if err := s.settled(ctx); err != nil {
		return fmt.Errorf("after a start: %w", err)
	}
	s.faults.slowest = max(s.faults.slowest, time.Since(began))
	s.health.born(time.Now())
	return nil
}

// reload is the next of: another name for a rule, a ruleset that must be refused, the watched
// rule enforced, and monitored again.
func (s *soak) reload(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*patience)
	defer cancel()
	n := s.faults.reloads + s.faults.refused
	switch n % 4 {
	case 0:
		return s.apply(ctx, rename(lab.Ruleset, n))
	case 1:
		return s.refuse(ctx, rename(lab.Ruleset, n-1))
	case 2:
		return s.enforce(ctx, n)
	}
	// The watched rule may let packets out from the moment the file changes.
	s.turn.Add(1)
	defer s.turn.Add(1)
	s.far.deny(ctx, s, false)
	return s.apply(ctx, rename(lab.Ruleset, n))
}

func rename(ruleset string, n int) string {
	return strings.Replace(ruleset, "name: deny-east-west, ", fmt.Sprintf("name: deny-east-west-%d, ", n), 1)
}

// enforce has the watched rule deny. A live flow must be reset by that.
func (s *soak) enforce(ctx context.Context, n int) error {
	h := s.agents[0]
	if _, err := s.resolve(ctx, h, lab.GistName); err != nil {
		return err
	}
	live, err := s.open(h, netip.AddrPortFrom(lab.Gist, 443), lab.GistName)
	if err != nil {
		return err
	}
	defer live.close()
	if _, err := live.get("/before"); err != nil {
		return err
	}
	live.opened()
	s.turn.Add(1)
	defer s.turn.Add(1)
	if err := s.apply(ctx, strings.Replace(rename(lab.Ruleset, n), "action: DENY, mode: monitor", "action: DENY, mode: enforce", 1)); err != nil {
		return err
	}
	live.conn.SetReadDeadline(time.Now().Add(patience))
	if _, err := live.in.ReadByte(); err == nil || strings.Contains(err.Error(), "timeout") {
		return fmt.Errorf("a flow that a reload withdrew lives on: %v", err)
	}
	s.turning.Lock() // the calls under way may still have been permitted
	defer s.turning.Unlock()
	s.far.deny(ctx, s, true)
	return nil
}

// apply puts a ruleset in force, by the file's change or by SIGHUP.
func (s *soak) apply(ctx context.Context, yaml string) error {
	before, err := s.readiness(ctx)
	if err != nil {
		return err
	}
	if err := s.write(yaml); err != nil {
		return err
	}
	s.faults.reloads++
	return s.await(ctx, "a ruleset is not in force", func(r readiness) bool {
		return r.Ruleset.Error == "" && r.Ruleset.Digest != before.Ruleset.Digest
	})
}

// refuse offers a ruleset that must be refused, then the one in force again: a gateway would
// not start with the other.
func (s *soak) refuse(ctx context.Context, inForce string) error {
	before, err := s.readiness(ctx)
	if err != nil {
		return err
	}
	if err := s.write(strings.Replace(inForce, "webGroups: [foundry-tool-calls]", "webGroups: [foundry-toolcalls]", 1)); err != nil {
		return err
	}
	s.faults.refused++
	if err := s.await(ctx, "a bad ruleset is not refused", func(r readiness) bool {
		return r.Ruleset.Error != "" && r.Ruleset.Digest == before.Ruleset.Digest
	}); err != nil {
		return err
	}
	if err := s.write(inForce); err != nil {
		return err
	}
	return s.await(ctx, "a good ruleset does not clear the error", func(r readiness) bool {
		return r.Ruleset.Error == "" && r.Ruleset.Digest == before.Ruleset.Digest
	})
}

func (s *soak) write(yaml string) error {
	if err := s.lab.WriteRuleset(yaml); err != nil {
		return err
	}
	if (s.faults.reloads+s.faults.refused)%2 == 1 {
		return s.lab.Process.Signal(syscall.SIGHUP)
	}
	return nil
}

// readiness is what /readyz says.
type readiness struct {
	Ruleset struct{ Digest, Error string }
	Pins    int
}

func (s *soak) readiness(ctx context.Context) (r readiness, err error) {
	return r, s.admin(ctx, "/readyz", &r)
}

// flows is how many the enforcer has.
func (s *soak) flows(ctx context.Context) (int, error) {
	var a struct{ Total int }
	return a.Total, s.admin(ctx, "/flows", &a)
}

func (s *soak) admin(ctx context.Context, path string, into any) error {
	resp, err := s.lab.Process.Admin(ctx, path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func (s *soak) await(ctx context.Context, what string, ok func(readiness) bool) error {
	return until(ctx, func() error {
		r, err := s.readiness(ctx)
		if err != nil {
			return err
		}
		if !ok(r) {
			return fmt.Errorf("%s: /readyz says %+v", what, r)
		}
		return nil
	})
}
