package main

import (
	"crypto/x509"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/bulkhead-dev/bulkhead/gateway/ca"
	"github.com/bulkhead-dev/bulkhead/gateway/probe"
)

// rootVariable holds the root's certificate where there is no file to put it into.
const rootVariable = "BULKHEAD_ROOT"

func probeCommand() *cobra.Command {
	p := probe.Probe{Resolver: probe.AzureDNS}
	var root string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "probe",
		Short: "Try out from an agent's network what an agent could reach",
		Long: `Run it where an agent would run, in a subnet with the agents' route table and security
group: what it can reach, an agent could. It asks for names and greets hosts, and sends
nothing else.

With --decrypted, the root's certificate is in --root, or in the variable ` + rootVariable + `.

Exit code 0 contained, 1 not.`,
		Example: `  bulkhead probe --permitted mcr.microsoft.com --denied example.com
  bulkhead probe --permitted mcr.microsoft.com --denied example.com --decrypted api.github.com --root root.crt --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if p.Permitted == "" || p.Denied == "" {
				return &usage{fmt.Errorf("--permitted, --denied: name a host for each")}
			}
			if p.Decrypted != "" {
				var err error
				if p.Root, err = probeRoot(root); err != nil {
					return err
				}
			}
			findings := p.Run(cmd.Context())
			ok := true
			for _, f := range findings {
				ok = ok && f.OK
			}
			if asJSON {
				err := printJSON(cmd.OutOrStdout(), struct {
					Contained bool            `json:"contained"`
					Findings  []probe.Finding `json:"findings"`
				}{ok, findings})
				if err != nil {
					return err
				}
			} else {
				for _, f := range findings {
					mark := "ok  "
					if !f.OK {
						mark = "FAIL"
					}
					fmt.Fprintf(cmd.OutOrStdout(), "%s  %s\n      %s\n", mark, f.Check, f.Found)
					if !f.OK {
						fmt.Fprintf(cmd.OutOrStdout(), "      wanted: %s\n      fix: %s\n", f.Wanted, f.Fix)
					}
				}
			}
			if !ok {
				return &exit{exitFailure, ""}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&p.Permitted, "permitted", "", "a host that the ruleset permits on port 443")
	cmd.Flags().StringVar(&p.Denied, "denied", "", "a host that it denies")
	cmd.Flags().StringVar(&p.Address, "address", "1.1.1.1:443", "an address on the Internet that no name is asked for, with its port")
	cmd.Flags().StringVar(&p.Decrypted, "decrypted", "", "a host that it decrypts")
	cmd.Flags().StringVar(&root, "root", "", "the root's certificate, in PEM")
	cmd.Flags().DurationVar(&p.Patience, "timeout", 10*time.Second, "how long to wait for each answer")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON document")
	return cmd
}

func probeRoot(file string) (*x509.Certificate, error) {
	if file != "" {
		return ca.ReadCertificate(file)
	}
	text := os.Getenv(rootVariable)
	if text == "" {
		return nil, &usage{fmt.Errorf("--decrypted: give --root, or the certificate in %s", rootVariable)}
	}
	cert, err := ca.ParseCertificate([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", rootVariable, err)
	}
	return cert, nil
}
