package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/bulkhead-dev/bulkhead/gateway/config"
	"github.com/bulkhead-dev/bulkhead/gateway/server"
)

// admin finds a running gateway's admin address.
type admin struct {
	config string
	listen string
}

func (a *admin) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.config, "config", defaultConfig, "the gateway's configuration, for its admin address")
	cmd.Flags().StringVar(&a.listen, "admin", "", "the admin address itself, such as 127.0.0.1:9180")
}

// get reads one JSON document from the gateway. A gateway that is not ready answers too.
func (a *admin) get(ctx context.Context, path string, to any) error {
	addr := a.listen
	if addr == "" {
		cfg, err := config.Load(a.config)
		if err != nil {
			return fmt.Errorf("%w; or give --admin", err)
		}
		addr = cfg.Admin.Listen.String()
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+path, nil)
	if err != nil {
		return &usage{fmt.Errorf("--admin %q: %w", addr, err)}
	}
	// The gateway is on this machine, whatever proxy the environment names.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("no gateway answers on %s: %w", addr, err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, 16<<20)).Decode(to); err != nil {
		return fmt.Errorf("%s answers, but not as a gateway: %w", addr, err)
	}
	return nil
}

func statusCommand() *cobra.Command {
	var at admin
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say what runs here, and which ruleset is in force",
		Long: `Asks the gateway on this machine. Exit code 0 where it is ready, 1 where it is not or
none answers.`,
		Example: `  bulkhead status
  bulkhead status --admin 127.0.0.1:9180 --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var r server.Readiness
			if err := at.get(cmd.Context(), "/readyz", &r); err != nil {
				return err
			}
			if asJSON {
				if err := printJSON(cmd.OutOrStdout(), r); err != nil {
					return err
				}
			} else {
				printStatus(cmd.OutOrStdout(), &r)
			}
			if !r.Ready {
				return &exit{exitFailure, ""}
			}
			return nil
		},
	}
	at.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON document")
	return cmd
}

func printStatus(w io.Writer, r *server.Readiness) {
	if r.Ready {
		fmt.Fprintf(w, "ready      bulkhead %s\n", r.Version)
	} else {
		fmt.Fprintf(w, "NOT READY  bulkhead %s: %s\n", r.Version, r.Why)
	}
	switch {
	case r.Ruleset.Digest == "":
		fmt.Fprintln(w, "ruleset    none yet")
	case r.Ruleset.Serial != 0:
		fmt.Fprintf(w, "ruleset    %s, %d rules, serial %d\n", r.Ruleset.Digest, r.Ruleset.Rules, r.Ruleset.Serial)
	default:
		fmt.Fprintf(w, "ruleset    %s, %d rules\n", r.Ruleset.Digest, r.Ruleset.Rules)
	}
	if r.Ruleset.Error != "" {
		fmt.Fprintf(w, "           what is on disk or published is not in force: %s\n", r.Ruleset.Error)
	}
	for _, m := range r.Ruleset.Missing {
		fmt.Fprintf(w, "           no data for %s: its group matches nothing\n", m)
	}
	for _, d := range r.Data {
		fmt.Fprintf(w, "data       %s: %d entries, %s\n", sourceName(d), d.Entries, age(d, time.Now()))
		if d.Error != "" {
			fmt.Fprintf(w, "           %s\n", d.Error)
		}
	}
	fmt.Fprintf(w, "pins       %d\n", r.Pins)
	if d := r.Decryption; d != nil {
		printDecryption(w, d)
	}
	if r.Budgets != "" {
		fmt.Fprintf(w, "budgets    %s\n", r.Budgets)
	}
	for _, e := range r.Egress {
		fmt.Fprintf(w, "egress     cannot be reached, %s\n", e)
	}
	if a := r.Attestation; a != nil && a.Error != "" {
		fmt.Fprintf(w, "reports    cannot be written: %s\n", a.Error)
	}
	fmt.Fprintf(w, "audit key  %s\n", r.AuditKey)
}

func printDecryption(w io.Writer, d *server.Decryption) {
	fmt.Fprintf(w, "decrypts   as %s, until %s\n", d.Root, d.Expires.Format(time.RFC3339))
	if d.Trouble != "" {
		fmt.Fprintf(w, "           %s\n", d.Trouble)
	}
	if d.Proof == nil {
		fmt.Fprintln(w, "           no agent has shown yet that it trusts this root; see `bulkhead ca canary --help`")
	}
	for _, x := range d.Rejected {
		fmt.Fprintf(w, "           %s: %d clients did not take the certificate, the last %s\n", x.Name, x.Count, x.Source)
	}
}
