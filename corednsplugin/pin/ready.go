package pin

// Ready implements the ready.Readiness interface: without a ruleset every question
// fails.
func (p *Pin) Ready() bool { return p.Rules() != nil }
