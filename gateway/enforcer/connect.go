package enforcer

import (
	"context"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-dev/bulkhead/gateway/enforcer/relay"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// dial has the relay connect to the destination, and gives it the client as soon as that
// answers. Whatever else comes of it, another goroutine takes the flow on: to try other
// addresses of the name, or to end it.
func (f *flow) dial(ctx context.Context, v verdict, p *peeked) (handed bool) {
	fd, err := f.srv.opt.Dialer.Begin(v.facts.Src, f.dst)
	if err != nil {
		return f.dialOthers(ctx, v, p, err)
	}
	if err := f.handOver(ctx, v, p.take(), fd); err != nil { // the relay is closing
		f.reset()
		f.closed(v, 0, 0, "the gateway could not relay: "+err.Error())
		return false
	}
	return true
}

// handOver gives a socket that is being connected to the relay, with the flow.
func (f *flow) handOver(ctx context.Context, v verdict, p *peeked, fd int) error {
	f.mu.Lock()
	defer f.mu.Unlock() // dialled waits for it
	pair, err := f.srv.engine.Dial(fd, relay.Attempt{
		Patience: attemptDelay, Longest: attemptTimeout,
		GiveUp:    func() bool { return len(f.srv.alternatives(&v.facts)) > 0 },
		Connected: func(pair *relay.Pair, err error) { f.dialled(ctx, v, p, pair, err) },
	})
	if err != nil {
		p.release()
		return err
	}
	if f.pair = pair; f.gone {
		pair.Reset()
	}
	return nil
}

// dialled is called by the relay's loop, once.
func (f *flow) dialled(ctx context.Context, v verdict, p *peeked, pair *relay.Pair, err error) {
	defer f.survive()
	if err == nil {
		var joined bool
		if joined, err = f.give(pair, p, v); joined {
			p.release()
			f.cancel() // nothing is waited for any more
			return
		}
		pair.Drop()
	}
	f.srv.work.run(func() {
		f.own(func() bool {
			defer p.release()
			f.mu.Lock()
			f.pair = nil
			gone := f.gone
			f.mu.Unlock()
			if gone {
				f.closed(v, 0, 0, "")
				return false
			}
			return f.dialOthers(ctx, v, p, err)
		})
	})
}

// give completes a dialled pair with the flow's client, unless the flow was reset.
func (f *flow) give(pair *relay.Pair, p *peeked, v verdict) (given bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gone {
		return false, unix.ECONNRESET
	}
	client := f.client
	f.client = nil
	if err := pair.Join(client, p.bytes(), f.meter, func(n relay.Totals) { f.ended(v, n.Out, n.In, "") }); err != nil {
		f.gone = true
		return false, err
	}
	return true, nil
}

// dialOthers tries other addresses of the flow's name after the first attempt failed.
func (f *flow) dialOthers(ctx context.Context, v verdict, p *peeked, failed error) (handed bool) {
	server, to, err := f.srv.connect(ctx, &v.facts, failed)
	if err != nil {
		f.reset()
		f.closed(v, 0, 0, "the destination did not answer: "+err.Error())
		return false
	}
	if !f.attach(server, to) {
		f.closed(v, 0, 0, "")
		return false
	}
	message := ""
	if to != f.dst.Addr() {
		message = "connected to " + to.String() + ", another address of the name"
		// The origin that was looked at is the one that did not answer.
		if reason, why := f.posture(ctx, &v, p.offer(), to); reason != "" {
			f.revoke(v.refuseRule(reason), why)
			if v.facts.Wire == policy.WireTLS {
				alert(f.client)
			}
			f.reset()
			f.closed(v, 0, 0, "")
			return false
		}
	}
	if !f.affords(len(p.bytes())) {
		f.reset()
		f.closed(v, 0, 0, "")
		return false
	}
	first, err := server.Write(p.bytes())
	p.release()
	if err != nil {
		f.reset()
		f.closed(v, int64(first), 0, "the destination hung up: "+err.Error())
		return false
	}
	if err := f.relay(func(n relay.Totals) { f.ended(v, n.Out+int64(first), n.In, message) }); err != nil {
		f.closed(v, int64(first), 0, err.Error())
		return false
	}
	return true
}
