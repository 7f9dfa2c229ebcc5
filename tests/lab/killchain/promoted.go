package killchain

import (
	"context"
	"fmt"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// Promoted waits until a ruleset that has just been reloaded refuses the name of a step that
// worked before, and then plays the step, which must now be refused at its question.
func Promoted(ctx context.Context, l *lab.Lab, from, name string, report func(Result)) error {
	a, err := open(l, from)
	if err != nil {
		return err
	}
	defer a.close()
	for _, s := range steps(l.Network()) {
		if s.name != name {
			continue
		}
		s.want, s.flow = Refused, flow{class: audit.DNSActivity, host: s.flow.host}
		if err := a.refused(ctx, s.flow.host); err != nil {
			return err
		}
		r, err := a.play(ctx, s)
		if err == nil {
			report(r)
		}
		return err
	}
	return fmt.Errorf("no step %q", name)
}

// refused asks for a name until the answer is no.
func (a *attack) refused(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, stepTime)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if got := resolve(name)(ctx, a); !got.reached && !got.silent {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s is still resolved %s after the reload", name, stepTime)
		}
	}
}
