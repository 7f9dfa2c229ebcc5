package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
)

// notifyEvery is how often the service manager hears how things are, where its watchdog
// does not ask for it more often.
const notifyEvery = 5 * time.Second

// extendStart asks the service manager for another minute (sd_notify(3), EXTEND_TIMEOUT_USEC),
// each time that it hears from us.
const extendStart = "EXTEND_TIMEOUT_USEC=60000000\n"

// notify tells systemd (sd_notify(3)) when the gateway is ready, what it does, and that
// it is alive: a gateway that fails its self-test for longer than WatchdogSec is started
// anew. One that waits for room on its disk is not: that makes none, and would lose
// the ends of flows that are held in memory until there is some.
func (s *Server) notify(ctx context.Context) {
	every := notifyEvery
	watchdog, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		s.log.Warn("the watchdog's time is not understood", "error", err)
	}
	if watchdog > 0 {
		every = min(every, watchdog/2)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	started, last := false, ""
	for {
		r := s.readiness()
		state := ""
		if r.Ready && !started {
			state, started = daemon.SdNotifyReady+"\n", true
		}
		if !started && s.empty.Load() {
			state += extendStart // being started anew would bring no ruleset
		}
		if watchdog > 0 && (r.Ready || errors.Is(s.audit.Healthy(), audit.ErrFull)) {
			state += daemon.SdNotifyWatchdog + "\n"
		}
		if status := statusLine(r); status != last {
			state, last = state+"STATUS="+status+"\n", status
		}
		if state != "" {
			if here, err := daemon.SdNotify(false, state); err != nil {
				s.log.Warn("the service manager was not told", "error", err)
			} else if !here {
				return // nobody to tell
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-s.news:
		}
	}
}

// stopping tells systemd that the gateway lets flows end.
func (s *Server) stopping() {
	if _, err := daemon.SdNotify(false, daemon.SdNotifyStopping+"\nSTATUS=letting flows end\n"); err != nil {
		s.log.Warn("the service manager was not told", "error", err)
	}
}

// statusLine is one line for systemctl status.
func statusLine(r Readiness) string {
	switch {
	case !r.Ready:
		return "not ready: " + firstLine(r.Why)
	case r.Ruleset.Error != "":
		return "ready with the last good ruleset; the one on disk is refused: " + firstLine(r.Ruleset.Error)
	}
	return fmt.Sprintf("ready: %d rules, %s", r.Ruleset.Rules, r.Ruleset.Digest)
}
