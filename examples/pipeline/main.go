// Command pipeline deploys a contained spoke from a pipeline, by Pulumi's Automation API.
//
//	pipeline review  [-stack dev] [-project spoke] [-out review]
//	pipeline deploy  [-stack dev] [-project spoke] [-out review]
//
// A pull request's job runs review: it previews, and leaves plan.json and summary.md in the
// folder: what agents gain and lose, for people to read in the pull request. After the merge,
// deploy carries out exactly that plan. A ruleset or a resource that has moved since the
// review is refused, before anything is changed. Where the gateway does not show in time that
// it enforces the new ruleset, the last one is put back.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/pulumi/pulumi/sdk/v3/go/auto"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "pipeline: "+err.Error())
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	jobs := map[string]func(context.Context, auto.Stack, string) error{"review": review, "deploy": deploy}
	if len(args) == 0 || jobs[args[0]] == nil {
		return fmt.Errorf("say review or deploy")
	}
	flags := flag.NewFlagSet(args[0], flag.ExitOnError)
	name := flags.String("stack", "dev", "the stack")
	project := flags.String("project", "spoke", "the folder of the program, in any language")
	out := flags.String("out", "review", "the folder that review leaves its plan and summary in")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	dir, err := filepath.Abs(*out)
	if err != nil {
		return err
	}
	stack, err := auto.UpsertStackLocalSource(ctx, *name, *project)
	if err != nil {
		return err
	}
	return jobs[args[0]](ctx, stack, dir)
}
