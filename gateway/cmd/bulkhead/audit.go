package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
)

func auditCommand() *cobra.Command {
	return group("audit", "Check what the gateway wrote down", "  bulkhead audit verify /var/log/bulkhead/audit.jsonl", verifyCommand())
}

func verifyCommand() *cobra.Command {
	var asJSON bool
	var fingerprint string
	cmd := &cobra.Command{
		Use:   "verify FILE...",
		Short: "Check that nothing in an audit log was removed, added or altered",
		Long: `Follows the hash chain through the files and checks the signed checkpoints. Rotated
files may be given in any order. A line torn by a crash at the end of the live file is
a warning; anything else is a break.

Exit code 0 whole, 4 broken.`,
		Example: `  bulkhead audit verify /var/log/bulkhead/audit.jsonl
  bulkhead audit verify --key SHA256:… /var/log/bulkhead/audit*.jsonl --json`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := audit.VerifyTrusting(fingerprint, args...)
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), r)
			} else {
				err = printReport(cmd, &r)
			}
			if err == nil && r.Broken {
				err = &exit{exitBroken, ""}
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON document")
	cmd.Flags().StringVar(&fingerprint, "key", "", "fingerprint of the gateway's key, as its log and `bulkhead status` print it: every checkpoint must be signed with it")
	return cmd
}

func printReport(cmd *cobra.Command, r *audit.Report) error {
	w := cmd.OutOrStdout()
	for _, p := range r.Breaks {
		fmt.Fprintf(w, "broken: %s\n", p)
	}
	for _, p := range r.Warnings {
		fmt.Fprintf(w, "warning: %s\n", p)
	}
	state := "whole"
	if r.Broken {
		state = "broken"
	}
	_, err := fmt.Fprintf(w, "%s: %d events (%d to %d), %d signed checkpoints, %d events after the last one\n",
		state, r.Events, r.First, r.Last, r.Checkpoints, r.Unsigned)
	return err
}
