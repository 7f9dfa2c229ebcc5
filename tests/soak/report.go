package main

import (
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"
)

// say prints a line of progress.
func (s *soak) say() {
	var ok, failed, excused, tried, through int
	for _, c := range s.calls {
		c.mu.Lock()
		if c.forbidden {
			tried, through = tried+c.ok+c.failed, through+c.failed
		} else {
			ok, failed, excused = ok+c.ok, failed+c.failed, excused+c.excused
		}
		c.mu.Unlock()
	}
	packets, leaked := s.far.seen()
	s.mu.Lock()
	n := len(s.violations) + s.more
	s.mu.Unlock()
	fmt.Fprintf(os.Stderr, "soak: %s of %s: permitted %d (failed %d, not judged %d), forbidden %d (through %d), packets seen %d (leaked %d), outages %d, violations %d\n",
		s.clock(), s.plan.For, ok, failed, excused, tried, through, packets, leaked, s.outages.Load()/2, n)
}

// report prints the tables. An error says that something did not hold.
func (s *soak) report(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\ncall\tas it should\tnot\tgateway down or rule changing")
	for _, c := range s.calls {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\n", c.name, c.ok, c.failed, c.excused)
	}
	fmt.Fprintln(t, "\nfirst quarter → last\twhole run\tworst life\tallowed growth")
	for i, m := range measures {
		whole, worst, ok, okWorst := s.health.trends(i)
		fmt.Fprintf(t, "%s\t%s\t%s\t%.0f %% or %g\n", m.name, cell(whole, ok), cell(worst, okWorst), 100*growth, m.floor)
		if ok && whole.rises(m.floor) {
			s.violation("%s rose over the run: %v", m.name, whole)
		}
		if okWorst && worst.rises(m.floor) {
			s.violation("%s rose in the life of a process: %v", m.name, worst)
		}
	}
	_, missing := s.trail.missing()
	packets, leaked := s.far.seen()
	fmt.Fprintf(t, "\ntook\t%s\n", time.Since(s.began).Round(time.Second))
	fmt.Fprintf(t, "reloads\t%d in force, %d refused as they should be\n", s.faults.reloads, s.faults.refused)
	fmt.Fprintf(t, "restarts\t%d killed, %d stopped; until all works again %s at most\n", s.faults.kills, s.faults.stops, s.faults.slowest.Round(time.Millisecond))
	fmt.Fprintf(t, "audit\t%d events; permitted calls %d, without an event %d, counts of repeated questions that kills cost %d\n",
		s.trail.events, s.trail.expected, missing, s.trail.forgiven)
	fmt.Fprintf(t, "far side\t%d packets, leaked %d\n", packets, leaked)
	fmt.Fprintf(t, "violations\t%d\n", len(s.violations)+s.more)
	if err := t.Flush(); err != nil {
		return err
	}
	for _, v := range s.violations {
		fmt.Fprintln(w, "  "+v)
	}
	if n := len(s.violations) + s.more; n > 0 {
		return fmt.Errorf("%d violations", n)
	}
	return nil
}

func cell(t trend, ok bool) string {
	if !ok {
		return "too few samples"
	}
	return t.String()
}
