package packet

import (
	"context"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestLease: without somebody who writes flows down, flows that are there go on and no
// new ones begin.
func TestLease(t *testing.T) {
	if !namespaced(t) {
		return
	}
	l := newLab(t, 1)
	table := l.open(labConfig())
	live, err := l.dial(l.agent, "tcp", addrAgent, hostPort(addrPermit, portEcho))
	l.must(err)
	l.must(ask(live))
	l.must(table.Renew(0))
	l.must(ask(live))
	if err := l.try(l.agent, "tcp", addrAgent, hostPort(addrPermit, portEcho)); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("without a lease: %v", err)
	}
	l.must(table.Load(labTable()))
	if err := l.try(l.agent, "udp", addrAgent, hostPort(addrPermit, portEcho)); err == nil {
		t.Error("a reload renewed the lease")
	}
	l.must(table.Renew(time.Hour))
	l.must(l.try(l.agent, "tcp", addrAgent, hostPort(addrPermit, portEcho)))
	l.must(table.Renew(time.Millisecond))
	for l.try(l.agent, "tcp", addrAgent, hostPort(addrPermit, portEcho)) == nil { // until it lapses
	}
}

// TestFence: somebody takes the whole program away, and nothing of an agent gets out;
// what is put back works again.
func TestFence(t *testing.T) {
	if !namespaced(t) {
		return
	}
	l := newLab(t, 1)
	cfg := labConfig()
	table := l.open(cfg)
	l.enforcer()
	ctx, stop := context.WithCancel(t.Context())
	changed, done := make(chan struct{}, 1000), make(chan error)
	go func() { done <- table.Watch(ctx, func() { changed <- struct{}{} }) }()
	for heard := false; !heard; { // the watch has begun
		l.must(table.Load(labTable()))
		select {
		case <-changed:
			heard = true
		default:
		}
	}
	l.must(table.Intact())
	c, err := dial()
	l.must(err)
	c.FlushRuleset()
	l.must(c.Flush())
	before := l.wire.to(addrPermit) + l.wire.to(addrRefuse)
	for network, to := range map[string]string{"tcp": addrPermit, "udp": addrRefuse} {
		if err := l.try(l.agent, network, addrAgent, hostPort(to, portEcho)); err == nil {
			t.Errorf("%s to %s without a program", network, to)
		}
	}
	for gone := false; !gone; {
		<-changed
		gone = errors.Is(table.Intact(), ErrProgramGone)
	}
	l.must(table.Load(labTable()))
	l.must(table.Intact())
	l.must(table.Renew(time.Hour))
	l.must(table.Restore())
	l.settle()
	if n := l.wire.to(addrPermit) + l.wire.to(addrRefuse) - before; n != 0 {
		t.Errorf("%d packets got out", n)
	}
	l.must(l.try(l.agent, "tcp", addrAgent, hostPort(addrPermit, portEcho)))
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
