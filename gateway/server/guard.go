package server

import (
	"context"
	"errors"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/gateway/packet"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// guardEvery is how often the kernel program is looked at even if nobody seems to have
// touched it.
const guardEvery = 5 * time.Second

// guard notices that somebody else changed or removed the kernel program, puts it back,
// and writes that down. Meanwhile the fence behind the program keeps agents in.
func (s *Server) guard(ctx context.Context) {
	changed := make(chan struct{}, 1)
	go s.watchProgram(ctx, changed)
	tick := time.NewTicker(guardEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-tick.C:
		}
		s.keepProgram(ctx)
	}
}

func (s *Server) watchProgram(ctx context.Context, changed chan<- struct{}) {
	for ctx.Err() == nil {
		err := s.table.Watch(ctx, func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		})
		if err != nil {
			s.log.Warn("changes of the kernel program are noticed late", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(guardEvery):
		}
	}
}

func (s *Server) keepProgram(ctx context.Context) {
	s.reloads.Lock() // a reload changes the program, too
	defer s.reloads.Unlock()
	found := s.table.Intact()
	if !errors.Is(found, packet.ErrProgramGone) && !errors.Is(found, packet.ErrProgramChanged) {
		return
	}
	programRestored.Inc()
	s.log.Error("putting the kernel program back", "found", found)
	s.recorder().Record(audit.Record{Class: audit.DetectionFinding, Activity: audit.Open, Time: time.Now(),
		Decision: policy.Decision{Verdict: policy.Deny, Rule: policy.RuleInvariant, Mode: policy.ModeEnforce, Decrypt: policy.DecryptNotAllowed,
			Tier: policy.TierKernel, Stage: policy.StagePacket, Reason: policy.ReasonInvariant, Log: true, Index: -1},
		Digest: s.rules.Load().Digest(), Message: found.Error() + "; it is being put back"})
	err := errors.Join(s.apply(ctx, s.rules.Load()), s.table.Restore(), s.renew())
	if err != nil {
		s.unready(err) // and again at the next turn
	}
}
