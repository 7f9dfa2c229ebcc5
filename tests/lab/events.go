package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
)

// Events reads the gateway's audit log, oldest first. A last line that is still
// being written is left out.
func (l *Lab) Events() ([]audit.Event, error) {
	data, err := os.ReadFile(l.Paths.Audit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var events []audit.Event
	for line := range bytes.Lines(data) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break
		}
		var e audit.Event
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("%s, event %d: %w", l.Paths.Audit, len(events)+1, err)
		}
		events = append(events, e)
	}
	return events, nil
}

// WaitEvent waits for an event that satisfies want and returns the newest such.
func (l *Lab) WaitEvent(ctx context.Context, want func(*audit.Event) bool) (audit.Event, error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		events, err := l.Events()
		if err != nil {
			return audit.Event{}, err
		}
		for i := len(events) - 1; i >= 0; i-- {
			if want(&events[i]) {
				return events[i], nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return audit.Event{}, fmt.Errorf("no such event among %d: %w", len(events), ctx.Err())
		}
	}
}
