// Command soak leaves a gateway under mixed traffic for a long time, disturbs it, and looks
// for what only time shows: memory or descriptors that grow, an event that is missing, a
// packet that got out.
//
//	go run ./tests/soak -for 20m
//
// It builds a lab around the real binary. Both agents make permitted calls (TLS short and long,
// bulk, plain HTTP, server-sent events, DNS, flows that the kernel forwards) and try what is
// forbidden (see calls.go). Meanwhile the ruleset is reloaded, well and badly, and the
// process is killed or stopped and started again. The last third passes without a
// restart, because a slow leak needs a long life to be seen.
//
// What must hold, and fails the run with status 1:
//
//   - a permitted call fails only while the gateway is down; a flow that the kernel forwards, never;
//   - nothing forbidden gets out, by what agents see and by captures on the far side;
//   - each permitted call that succeeded has its event, each kind of forbidden one a refusal,
//     and the audit verifies as one chain over all restarts (of questions that repeat, a kill
//     may cost the counts of a minute: the audit says so, and the table says how many);
//   - memory, descriptors, goroutines, pins and flows are flat, once warm: the median of the
//     last quarter of the samples is not above that of the first by a fifth and a floor,
//     neither within the life of one process nor over the whole run;
//   - no panic in the gateway's log, no end of the process but those that were ordered.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// plan says what happens how often.
type plan struct {
	For      time.Duration // the whole run
	Reload   time.Duration // between reloads
	Kill     time.Duration // between SIGKILLs
	Stop     time.Duration // between SIGTERMs
	Warm     time.Duration // from a start to the first sample that counts
	Sample   time.Duration // between samples
	Window   time.Duration // of a capture
	Progress time.Duration // between lines of progress
	Check    time.Duration // between looks at audit and log
}

func defaultPlan() plan {
	return plan{For: 20 * time.Minute, Reload: 20 * time.Second, Kill: 90 * time.Second, Stop: 4 * time.Minute,
		Warm: 30 * time.Second, Sample: 2 * time.Second, Window: 10 * time.Second, Progress: 30 * time.Second, Check: time.Minute}
}

func main() {
	if err := lab.Enter(); err != nil {
		exit(err)
	}
	p := defaultPlan()
	flag.DurationVar(&p.For, "for", p.For, "how long")
	flag.Parse()
	switch {
	case flag.NArg() > 0:
		exit(fmt.Errorf("unknown argument %q", flag.Arg(0)))
	case p.For < time.Minute:
		exit(errors.New("-for: at least 1m"))
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	exit(run(ctx, p))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// run builds the gateway, soaks it, prints the table and says whether all held. The lab's
// files are kept where something did not.
func run(ctx context.Context, p plan) error {
	dir, err := os.MkdirTemp("", "bulkhead-soak-")
	if err != nil {
		return err
	}
	binary, err := lab.Build(ctx, dir)
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	s, err := begin(ctx, p, binary, dir)
	if err != nil {
		return fmt.Errorf("%w; its files are in %s", err, dir)
	}
	s.soak(ctx)
	err = s.report(os.Stdout)
	if err = errors.Join(err, s.lab.Down()); err != nil {
		return fmt.Errorf("%w; the lab's files are in %s", err, dir)
	}
	return os.RemoveAll(dir)
}
