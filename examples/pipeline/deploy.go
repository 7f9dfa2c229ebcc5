package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/auto"
	"github.com/pulumi/pulumi/sdk/v3/go/auto/optup"
	"github.com/pulumi/pulumi/sdk/v3/go/common/apitype"
)

// rulesetKey is the program's configuration that names the ruleset's file.
const rulesetKey = "rulesetFile"

// errMoved is in the chain of a deployment that is not what was reviewed.
var errMoved = errors.New("what was reviewed has moved: review it again")

// deploy carries out the plan of the review. The update itself waits until the gateway
// reports the digest: that is what the spoke's Attestation is for.
func deploy(ctx context.Context, stack auto.Stack, dir string) error {
	plan := filepath.Join(dir, planFile)
	if _, err := os.Stat(plan); err != nil {
		return fmt.Errorf("there is no reviewed plan: %w", err)
	}
	good, err := deployed(ctx, stack)
	if err != nil {
		return err
	}
	_, failed := stack.Up(ctx, optup.Plan(plan), optup.ProgressStreams(os.Stderr), optup.SuppressOutputs())
	switch {
	case failed == nil:
		outputs, err := stack.Outputs(ctx)
		if err == nil {
			fmt.Printf("the gateway enforces %v\n", outputs["rulesetDigest"].Value)
		}
		return err
	case moved(failed):
		return fmt.Errorf("%w (%w)", errMoved, lines(failed, "violates plan"))
	}
	now, err := deployed(ctx, stack)
	if err != nil || good == "" || now == good {
		return errors.Join(failed, err) // the ruleset in force is the one from before, or there was none
	}
	if err := putBack(ctx, stack, dir, good); err != nil {
		return fmt.Errorf("the deployment failed (%w), and the ruleset from before could not be put back: %w", failed, err)
	}
	return fmt.Errorf("the deployment failed, and the ruleset from before is in force again: %w", failed)
}

// moved tells a plan that does not fit any more.
func moved(err error) bool { return strings.Contains(err.Error(), "violates plan") }

// lines are those of an error that hold a text: the rest is the whole output.
func lines(err error, text string) error {
	var all []error
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); strings.Contains(line, text) && len(all) < 3 {
			if len(line) > 300 {
				line = line[:300] + "…"
			}
			all = append(all, errors.New(line))
		}
	}
	return errors.Join(all...)
}

// deployed is the ruleset that the state says is published, in canonical form.
func deployed(ctx context.Context, stack auto.Stack) (string, error) {
	state, err := stack.Export(ctx)
	if err != nil {
		return "", err
	}
	var deployment apitype.DeploymentV3
	if err := json.Unmarshal(state.Deployment, &deployment); err != nil {
		return "", err
	}
	for _, r := range deployment.Resources {
		if string(r.Type) == rulesetType {
			canonical, _ := r.Outputs["canonical"].(string)
			return canonical, nil
		}
	}
	return "", nil
}

// putBack deploys the program with another ruleset, and leaves its configuration as it was.
func putBack(ctx context.Context, stack auto.Stack, dir, canonical string) error {
	file := filepath.Join(dir, "last-good.json")
	if err := os.WriteFile(file, []byte(canonical), 0o644); err != nil {
		return err
	}
	before, err := stack.GetConfig(ctx, rulesetKey)
	if err != nil {
		return fmt.Errorf("the program has no configuration %s: %w", rulesetKey, err)
	}
	if err := stack.SetConfig(ctx, rulesetKey, auto.ConfigValue{Value: file}); err != nil {
		return err
	}
	_, err = stack.Up(ctx, optup.ProgressStreams(os.Stderr), optup.SuppressOutputs())
	return errors.Join(err, stack.SetConfig(ctx, rulesetKey, before))
}
