package enforcer

import (
	"errors"
	"sync"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/budget"
	"github.com/bulkhead-dev/bulkhead/gateway/enforcer/relay"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// A flow asks its budget for as much at a time as keeps its bytes in the kernel for long, and
// leaves something to the other flows of a small budget.
const (
	shareOfBudget         = 64
	leastChunk, mostChunk = 4 << 10, 1 << 20
)

// account is one flow's way to the budget of a rule.
type account struct {
	flow   *flow
	rule   verdict // the permit that the budget bounds
	ledger *budget.Ledger
	key    string
	limit  int64
	window time.Duration

	mu    sync.Mutex
	grant budget.Grant
}

// charge opens the account that a permit's bytes are charged to; nil where they are not
// bounded. The reason says that there is nothing to be had.
func (f *flow) charge(v *verdict) (*account, policy.Reason, string) {
	b := v.rules.Obligations(&v.Decision).Budget
	if b == nil {
		return nil, "", ""
	}
	a := &account{flow: f, rule: *v, ledger: f.srv.opt.Budgets, key: b.Key(v.Rule, f.src.Addr()), limit: b.BytesOut, window: b.Duration()}
	if a.ledger == nil {
		return nil, policy.ReasonNotReady, "budgets are not kept"
	}
	if n, _ := a.more(0); n == 0 {
		reason, why := a.denied()
		return nil, reason, why
	}
	return a, "", ""
}

// more gives back what is left of the last grant and takes another.
func (a *account) more(left int64) (int64, time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ledger.Return(a.grant, left)
	a.grant = a.ledger.Take(a.key, a.limit, a.window, min(max(a.limit/shareOfBudget, leastChunk), mostChunk))
	return a.grant.Bytes, a.grant.Until
}

// spend is more, for a flow that is under way: where nothing is to be had, it ends.
func (a *account) spend(left int64) (int64, time.Time) {
	n, until := a.more(left)
	if n == 0 {
		reason, why := a.denied()
		a.flow.revoke(a.rule.refuseRule(reason), why)
	}
	return n, until
}

// meter bounds a relayed pair by the account.
func (a *account) meter() *relay.Meter {
	if a == nil {
		return nil
	}
	return &relay.Meter{Left: a.grant.Bytes, Until: a.grant.Until, More: a.spend}
}

// affords charges n bytes that go before the relay has the flow.
func (f *flow) affords(n int) bool {
	m := f.meter
	if m == nil {
		return true
	}
	if m.Left < int64(n) {
		if m.Left, m.Until = f.account.spend(m.Left); m.Left < int64(n) {
			f.revoke(f.account.rule.refuseRule(policy.ReasonBudgetExceeded), "the rule's budget is spent")
			return false
		}
	}
	m.Left -= int64(n)
	return true
}

// close gives back what is left, soon.
func (a *account) close(left int64) {
	a.flow.srv.work.run(func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.ledger.Return(a.grant, max(left, 0))
		a.grant = budget.Grant{}
	})
}

// denied tells an empty budget from one that cannot be read or written.
func (a *account) denied() (policy.Reason, string) {
	err := a.ledger.Ready()
	if errors.Is(err, budget.ErrDisk) || errors.Is(err, budget.ErrDamaged) || errors.Is(err, budget.ErrFull) {
		return policy.ReasonNotReady, err.Error()
	}
	return policy.ReasonBudgetExceeded, "the rule's budget of " + a.window.String() + " is spent"
}
