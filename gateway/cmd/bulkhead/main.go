// Command bulkhead is the gateway and the tools around its ruleset: check, explain,
// diff, the audit and the local lab. This package holds flags and wiring only.
package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// Exit codes, as docs/reference/commands.md lists them.
const (
	exitFailure = 1
	exitDiffers = 2
	exitDenied  = 3
	exitBroken  = 4
	exitUsage   = 64
)

// version is set by the build.
var version = "0.1.0-dev"

// exit is an error that ends the process with a code of its own. Its text may be
// empty where the command has said everything already.
type exit struct {
	code int
	text string
}

func (e *exit) Error() string { return e.text }

func main() { os.Exit(run(os.Args[1:])) }

// run executes one command line and returns the process's exit code. Every error is
// one clear message on standard error.
func run(args []string) int {
	root := rootCommand()
	root.SetArgs(args)
	err := root.Execute()
	if err == nil {
		return 0
	}
	code, text := exitFailure, err.Error()
	var e *exit
	var u *usage
	switch {
	case errors.As(err, &e):
		code = e.code
	case errors.As(err, &u):
		code = exitUsage
	}
	if text != "" {
		fmt.Fprintln(os.Stderr, "bulkhead: "+strings.TrimSpace(text))
	}
	return code
}

// usage is an error in how the command was called.
type usage struct{ error }

func (u *usage) Unwrap() error { return u.error }

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "bulkhead",
		Short: "Network containment for AI agents",
		Long: `Bulkhead decides where an agent may talk: one ordered ruleset, enforced at the
agent's subnet, every decision audited.`,
		Example: `  bulkhead policy check ruleset.yaml
  bulkhead policy explain ruleset.yaml --src 10.20.1.20 --name api.github.com
  bulkhead gateway --config /etc/bulkhead/gateway.yaml
  bulkhead lab attack`,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(gatewayCommand(), lockdownCommand(), policyCommand(), auditCommand(), feedsCommand(), caCommand(), preflightCommand(), statusCommand(), topCommand(), probeCommand(), labCommand())
	strict(root)
	return root
}

// strict makes errors in flags and arguments usage errors, for every command.
func strict(cmd *cobra.Command) {
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &usage{fmt.Errorf("%w\nsee '%s --help'", err, cmd.CommandPath())}
	})
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return &usage{fmt.Errorf("%w\nsee '%s --help'", err, cmd.CommandPath())}
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		strict(sub)
	}
}

// noCommand refuses what is no subcommand, and suggests the one that was meant.
func noCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	msg := fmt.Sprintf("unknown command %q", args[0])
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		msg += fmt.Sprintf("; did you mean %q?", near[0])
	}
	return errors.New(msg)
}

// group is a command that only holds others.
func group(use, short, example string, sub ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Example: example, Args: noCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(sub...)
	return cmd
}
