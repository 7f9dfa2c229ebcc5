package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"

	"github.com/spf13/cobra"

	"github.com/bulkhead-dev/bulkhead/gateway/feeds"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// source says where a command's ruleset and the data of its groups are.
type source struct {
	feeds, tags string
}

func (s *source) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.feeds, "feeds", "", "directory with one file per threat feed, named after it")
	cmd.Flags().StringVar(&s.tags, "service-tags", "", "Azure's service-tag file (ServiceTags_Public_….json)")
}

// read decodes a file and loads its data. The diagnostics hold decoding errors
// too; doc is nil then.
func (s *source) read(file string) (doc *policy.Document, env policy.Environment, diags []policy.Diagnostic, err error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, env, nil, fmt.Errorf("ruleset: %w", err)
	}
	doc, err = policy.Decode(data)
	var bad *policy.DecodeError
	switch {
	case errors.As(err, &bad):
		return nil, env, bad.Diagnostics, nil
	case err != nil:
		return nil, env, nil, fmt.Errorf("%s: %w", file, err)
	}
	loaded, problems, err := feeds.Load(doc, feeds.Options{Dir: s.feeds, ServiceTagsFile: s.tags})
	if err != nil {
		return nil, env, nil, err
	}
	for _, p := range problems {
		fmt.Fprintln(os.Stderr, "bulkhead: "+p.String())
	}
	env.Data = loaded
	return doc, env, policy.Check(doc, env), nil
}

// compile is read for commands that need a ruleset without errors. It prints the
// diagnostics if there are any errors.
func (s *source) compile(file string, stderr io.Writer) (*policy.Ruleset, error) {
	doc, env, diags, err := s.read(file)
	if err != nil {
		return nil, err
	}
	if policy.HasErrors(diags) {
		policy.FormatDiagnostics(stderr, file, diags)
		return nil, &exit{exitFailure, fmt.Sprintf("%s has errors; nothing was judged", file)}
	}
	return policy.Compile(doc, env)
}

func policyCommand() *cobra.Command {
	return group("policy", "Check, explain and compare rulesets",
		`  bulkhead policy check ruleset.yaml
  bulkhead policy explain ruleset.yaml --src 10.20.1.20 --dst 140.82.112.6 --port 443 --name api.github.com
  bulkhead policy diff old.yaml new.yaml`,
		checkCommand(), explainCommand(), diffCommand())
}

func checkCommand() *cobra.Command {
	var src source
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "Say what is wrong or dangerous in a ruleset",
		Long: `Reads a ruleset strictly and prints every diagnostic: its place, what is wrong, and
the fix. Exit code 0, or 1 where there is an error.`,
		Example: `  bulkhead policy check examples/ruleset.yaml
  bulkhead policy check ruleset.yaml --service-tags ServiceTags_Public_20251110.json --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			doc, _, diags, err := src.read(args[0])
			if err != nil {
				return err
			}
			failed := policy.HasErrors(diags)
			if asJSON {
				if diags == nil {
					diags = []policy.Diagnostic{}
				}
				if err := printJSON(cmd.OutOrStdout(), map[string]any{"file": args[0], "ok": !failed, "diagnostics": diags}); err != nil {
					return err
				}
			} else {
				if err := policy.FormatDiagnostics(cmd.OutOrStdout(), args[0], diags); err != nil {
					return err
				}
				if len(diags) == 0 {
					fmt.Fprintf(cmd.OutOrStdout(), "%s: ok, %d rules\n", args[0], len(doc.Rules))
				}
			}
			if failed {
				return &exit{exitFailure, ""}
			}
			return nil
		},
	}
	src.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON document")
	return cmd
}

func diffCommand() *cobra.Command {
	var src source
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "Say which rules changed, and what access that gains and loses",
		Long: `Compares two rulesets: rules added, removed and changed, and the access that agents
gain and lose by it. Exit code 0 where they are the same, 2 where they differ.`,
		Example: `  bulkhead policy diff deployed.yaml ruleset.yaml`,
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			before, err := src.compile(args[0], cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			after, err := src.compile(args[1], cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			changes := policy.Diff(before, after)
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), changes)
			} else {
				err = changes.Format(cmd.OutOrStdout())
			}
			if err != nil {
				return err
			}
			if !changes.Empty() {
				return &exit{exitDiffers, ""}
			}
			return nil
		},
	}
	src.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON document")
	return cmd
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// addrFlag is an IP address given as a flag.
type addrFlag struct{ netip.Addr }

func (a *addrFlag) Set(s string) (err error) {
	a.Addr, err = netip.ParseAddr(s)
	a.Addr = a.Unmap()
	return err
}

func (a *addrFlag) String() string {
	if !a.IsValid() {
		return ""
	}
	return a.Addr.String()
}

func (a *addrFlag) Type() string { return "IP" }
