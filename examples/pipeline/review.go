package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pulumi/pulumi/sdk/v3/go/auto"
	"github.com/pulumi/pulumi/sdk/v3/go/auto/events"
	"github.com/pulumi/pulumi/sdk/v3/go/auto/optpreview"
)

const (
	planFile    = "plan.json"
	summaryFile = "summary.md"
)

// review previews, and writes down what people approve. A preview that a guard refused has a
// summary too: it says why.
func review(ctx context.Context, stack auto.Stack, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	stream := make(chan events.EngineEvent)
	summary := make(chan Summary)
	go func() { summary <- Summarize(stream) }()
	_, failed := stack.Preview(ctx, optpreview.Plan(filepath.Join(dir, planFile)),
		optpreview.EventStreams(stream), optpreview.ProgressStreams(os.Stderr))
	s := <-summary // the API closes the stream
	s.Refused = failed != nil
	if failed != nil {
		// Nobody is to deploy the plan of a preview that failed.
		failed = fmt.Errorf("the preview failed, see %s", filepath.Join(dir, summaryFile))
		if err := os.Remove(filepath.Join(dir, planFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return errors.Join(failed, os.WriteFile(filepath.Join(dir, summaryFile), []byte(s.Markdown()), 0o644))
}
