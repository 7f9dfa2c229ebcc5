package server

import (
	"context"
	"sync"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/gateway/packet"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

const (
	// leaseTime is how long the kernel goes on to begin flows when nobody renews its
	// lease: the longest that a crash leaves it alone.
	leaseTime  = 3 * time.Second
	leaseEvery = time.Second
)

// maxWriting bounds the events of forwarded flows that are on their way to the disk; beyond,
// the kernel's wait for their reader.
const maxWriting = 1024

// maxMissed bounds what is remembered of flows whose end was not seen.
const maxMissed = 1 << 16

// ledger knows the forwarded flows whose beginning is in the audit and whose end is not.
type ledger struct {
	mu   sync.Mutex
	open map[packet.Conn]bool
	// withdrawn are those that a new ruleset ends, and what it said. Their end, with its
	// bytes, is still to come.
	withdrawn map[packet.Conn]withdrawal
	// missed are those whose end was written down although it was not seen. Should it only have
	// been late, it is not written down again.
	missed map[packet.Conn]bool
	// writing holds a token for each event that is on its way to the disk.
	writing chan struct{}
	// kept is true once the kernel's events are being read and what was there before
	// them has been entered.
	kept bool
}

// withdrawal is what a ruleset made of a flow that had been permitted before.
type withdrawal struct {
	decision policy.Decision
	digest   string
}

func newLedger() ledger {
	return ledger{open: map[packet.Conn]bool{}, withdrawn: map[packet.Conn]withdrawal{}, missed: map[packet.Conn]bool{}, writing: make(chan struct{}, maxWriting)}
}

// withdraw notes whether a flow is being ended by a new ruleset.
func (l *ledger) withdraw(c packet.Conn, d policy.Decision, digest string, ended bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !ended {
		delete(l.withdrawn, c) // it outlived the attempt, and is permitted again
		return
	}
	d.Verdict = policy.Deny // also where it now needs the enforcer, which it cannot be given to
	l.withdrawn[c] = withdrawal{d, digest}
}

// forwarded writes down the beginning and the end of flows that the kernel forwards.
func (s *Server) forwarded(f packet.Flow) {
	switch f.Event {
	case packet.FlowsLost:
		s.reconcile(context.Background())
	case packet.FlowOpened:
		s.forwardedOpen(f.Conn, "")
	case packet.FlowClosed:
		s.forwardedClose(f, "")
	}
}

// reconcile compares the ledger with the kernel's connections, and writes down what was
// missed: after a start the flows that an earlier run admitted, after a flood those
// whose events got lost. It asks until the kernel answers, because nothing new is
// forwarded before the ledger is right.
func (s *Server) reconcile(ctx context.Context) {
	l := &s.ledger
	l.mu.Lock()
	l.kept = false
	l.mu.Unlock()
	for wait := 50 * time.Millisecond; ctx.Err() == nil; wait = min(2*wait, 5*time.Second) {
		live := map[packet.Conn]bool{}
		_, err := s.table.Sweep(ctx, func(c packet.Conn) bool {
			live[c] = true
			return true
		})
		if err == nil {
			s.enterMissed(live)
			return
		}
		s.log.Error("cannot list the flows that the kernel forwards", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

func (s *Server) enterMissed(live map[packet.Conn]bool) {
	l := &s.ledger
	l.mu.Lock()
	var opened, closed []packet.Conn
	for c := range live {
		if !l.open[c] {
			opened = append(opened, c)
		}
	}
	for c := range l.open {
		if !live[c] {
			closed = append(closed, c)
		}
	}
	for c := range l.withdrawn {
		if !live[c] && !l.open[c] {
			delete(l.withdrawn, c)
		}
	}
	if len(l.missed) > maxMissed { // whose ends were lost, most likely
		clear(l.missed)
	}
	l.mu.Unlock()
	for _, c := range opened {
		s.forwardedOpen(c, "found open: its beginning was not seen")
	}
	for _, c := range closed {
		s.forwardedClose(packet.Flow{Conn: c}, unseenEnd)
	}
	l.mu.Lock()
	l.kept = true
	l.mu.Unlock()
}

func (s *Server) forwardedOpen(c packet.Conn, message string) {
	l := &s.ledger
	l.mu.Lock()
	known := l.open[c]
	l.open[c] = true
	delete(l.missed, c) // another flow between the same ends
	l.mu.Unlock()
	if known {
		return
	}
	rec := s.forwardedRecord(c, message)
	rec.Activity = audit.Open
	s.enter(rec)
}

// unseenEnd is what is said of a flow that is gone without its end having been seen.
const unseenEnd = "found closed: its end was not seen, nor its bytes"

func (s *Server) forwardedClose(f packet.Flow, message string) {
	l := &s.ledger
	l.mu.Lock()
	unseen := message == unseenEnd
	if written := l.missed[f.Conn] || unseen && !l.open[f.Conn]; written {
		delete(l.missed, f.Conn)
		l.mu.Unlock()
		return
	}
	if unseen {
		l.missed[f.Conn] = true
	}
	delete(l.open, f.Conn)
	w, withdrawn := l.withdrawn[f.Conn]
	delete(l.withdrawn, f.Conn)
	l.mu.Unlock()
	rec := s.forwardedRecord(f.Conn, message)
	if withdrawn {
		rec.Decision, rec.Digest, rec.Message = w.decision, w.digest, "withdrawn by a new ruleset"
	}
	rec.Activity, rec.BytesOut, rec.BytesIn, rec.Duration = audit.Close, int64(f.BytesOut), int64(f.BytesIn), f.Duration
	s.enter(rec)
}

// enter writes an event down without waiting, so that the reader of the kernel's events keeps up.
// What is not written ends the lease.
func (s *Server) enter(rec audit.Record) {
	s.ledger.writing <- struct{}{}
	s.recorder().Submit(rec, func(err error) {
		<-s.ledger.writing
		if err != nil {
			s.hush()
		}
	})
}

func (s *Server) forwardedRecord(c packet.Conn, message string) audit.Record {
	rules := s.rules.Load()
	d := rules.Decide(&policy.Flow{Stage: policy.StagePacket, Src: c.Src.Addr(), Dst: c.Dst.Addr(), Proto: c.Proto, Port: c.Dst.Port()})
	return audit.Record{Class: audit.NetworkActivity, Time: time.Now(), Src: c.Src, Dst: c.Dst, Proto: c.Proto,
		Decision: d, Digest: rules.Digest(), Message: message}
}

// hush has the lease looked at now and not at its next turn.
func (s *Server) hush() {
	select {
	case s.unwritten <- struct{}{}:
	default:
	}
}

// lease lets the kernel begin to forward flows while they can be written down.
func (s *Server) lease(ctx context.Context) {
	tick := time.NewTicker(leaseEvery)
	defer tick.Stop()
	for {
		if err := s.renew(); err != nil {
			s.log.Error("the kernel forwards no new flows", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-s.unwritten:
		}
	}
}

func (s *Server) renew() error {
	s.ledger.mu.Lock()
	kept := s.ledger.kept
	s.ledger.mu.Unlock()
	ttl := leaseTime
	if !kept || s.draining.Load() || s.audit.Healthy() != nil {
		ttl = 0
	}
	return s.table.Renew(ttl)
}
