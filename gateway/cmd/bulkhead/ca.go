package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/bulkhead-dev/bulkhead/gateway/ca"
	"github.com/bulkhead-dev/bulkhead/gateway/ca/trust"
)

// defaultRoot is where a gateway has its root's certificate.
const defaultRoot = "/etc/bulkhead/root.crt"

func caCommand() *cobra.Command {
	return group("ca", "Have agents trust the root behind decrypted flows",
		"  bulkhead ca bundle --root root.crt --with-system=auto --out bundle.pem\n  bulkhead ca canary --root root.crt --host mcp.contoso.com",
		bundleCommand(), canaryCommand(), initCommand())
}

// rootInfo says which root it is, in `--json`.
type rootInfo struct {
	Subject     string    `json:"subject"`
	Fingerprint string    `json:"fingerprint"`
	NotAfter    time.Time `json:"notAfter"`
}

func infoOf(c *x509.Certificate) rootInfo {
	return rootInfo{c.Subject.String(), ca.Fingerprint(c), c.NotAfter}
}

func bundleCommand() *cobra.Command {
	var root, system, format, out string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "bundle",
		Short: "Print the root in the form that an image's software reads",
		Long: `Prints the root's certificate in PEM, or as a PKCS #12 trust store for Java, whose
password is "changeit".

Some software adds a root to its own (NODE_EXTRA_CA_CERTS, update-ca-certificates).
Other software wants all of them in one file (SSL_CERT_FILE, REQUESTS_CA_BUNDLE,
CURL_CA_BUNDLE, javax.net.ssl.trustStore): --with-system puts the image's own roots
before ours. docs/trust.md says which takes what.`,
		Example: `  bulkhead ca bundle --root root.crt >bulkhead.crt
  bulkhead ca bundle --root root.crt --with-system=auto --out bundle.pem
  bulkhead ca bundle --root root.crt --with-system=certifi.pem --format pkcs12 --out trust.p12`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if format != "pem" && format != "pkcs12" {
				return &usage{fmt.Errorf("--format %q is neither pem nor pkcs12", format)}
			}
			if asJSON && out == "" {
				return &usage{fmt.Errorf("--json describes the file: give --out")}
			}
			ours, err := ca.ReadCertificate(root)
			if err != nil {
				return err
			}
			bundle := trust.Bundle{ours}
			if system != "" {
				var roots trust.Bundle
				if system == "auto" {
					roots, err = trust.System()
				} else {
					roots, err = trust.Read(system)
				}
				if err != nil {
					return err
				}
				bundle = roots.With(bundle)
			}
			data := bundle.PEM()
			if format == "pkcs12" {
				if data, err = bundle.PKCS12(); err != nil {
					return err
				}
			}
			if out == "" {
				_, err = cmd.OutOrStdout().Write(data)
				return err
			}
			if err := os.WriteFile(out, data, 0o644); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), struct {
					Root  rootInfo `json:"root"`
					File  string   `json:"file"`
					Roots int      `json:"roots"`
				}{infoOf(ours), out, len(bundle)})
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %d roots, ours is %s (SHA-256 %s)\n", out, len(bundle), ours.Subject, ca.Fingerprint(ours))
			return nil
		},
	}
	cmd.Flags().StringVar(&root, "root", defaultRoot, "the root's certificate, in PEM")
	cmd.Flags().StringVar(&system, "with-system", "", "put the roots of this PEM file before ours; auto: those of this system")
	cmd.Flags().StringVar(&format, "format", "pem", "pem or pkcs12")
	cmd.Flags().StringVar(&out, "out", "", "write this file instead of printing")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON document about the file written")
	return cmd
}

func canaryCommand() *cobra.Command {
	var root, host, port, store string
	var timeout time.Duration
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "canary",
		Short: "Try out whether this image trusts the root",
		Long: `Run it inside an agent's image, on an agent's network. It connects to a host that the
ruleset decrypts, and says whether the certificate is from our root and whether the
image's trust store accepts it: the system's, or the file of --store for software that
brings its own.

It completes the handshake only if both hold. The gateway takes that for the proof
that the root is trusted.

Exit code 0 trusted, 1 not.`,
		Example: `  bulkhead ca canary --root root.crt --host mcp.contoso.com
  bulkhead ca canary --root root.crt --host mcp.contoso.com --store "$(python -m certifi)" --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if host == "" {
				return &usage{fmt.Errorf("--host: name a host that the ruleset decrypts")}
			}
			ours, err := ca.ReadCertificate(root)
			if err != nil {
				return err
			}
			c := trust.Canary{Host: host, Port: port, Root: ours}
			if store != "" {
				if c.Store, err = trust.Read(store); err != nil {
					return err
				}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			f := c.Try(ctx)
			if asJSON {
				if err := printJSON(cmd.OutOrStdout(), f); err != nil {
					return err
				}
			} else {
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", f.Host, f.State)
				for _, name := range f.Chain {
					fmt.Fprintf(cmd.OutOrStdout(), "  sent  %q\n", name)
				}
				if f.Why != "" {
					fmt.Fprintf(cmd.OutOrStdout(), "  why   %s\n", f.Why)
				}
			}
			if f.State != trust.Trusted {
				return &exit{exitFailure, ""}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&root, "root", defaultRoot, "the root's certificate, in PEM")
	cmd.Flags().StringVar(&host, "host", "", "a host that the ruleset decrypts")
	cmd.Flags().StringVar(&port, "port", "443", "its port")
	cmd.Flags().StringVar(&store, "store", "", "the PEM file that the agent's software trusts; the system's if absent")
	cmd.Flags().DurationVar(&timeout, "timeout", 10*time.Second, "how long to try")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON document")
	return cmd
}

func initCommand() *cobra.Command {
	var dir, name string
	var lifetime time.Duration
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make a root for a lab, with its key in a file",
		Long: `Writes root.crt and root.key. Files that are there are not overwritten.

Who has the key can pose as any host to whoever trusts the root: in production the
key belongs into Key Vault, from where it cannot be taken.`,
		Example: `  bulkhead ca init --dir /etc/bulkhead --name "Contoso lab"`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f := ca.Files{Certificate: filepath.Join(dir, "root.crt"), Key: filepath.Join(dir, "root.key")}
			root, err := f.Init(name, lifetime, time.Now())
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), struct {
					Root        rootInfo `json:"root"`
					Certificate string   `json:"certificate"`
					Key         string   `json:"key"`
				}{infoOf(root), f.Certificate, f.Key})
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %s, until %s (SHA-256 %s)\n%s: its key; keep it from everybody\n", f.Certificate, root.Subject,
				root.NotAfter.Format(time.DateOnly), ca.Fingerprint(root), f.Key)
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", ".", "where to")
	cmd.Flags().StringVar(&name, "name", "Bulkhead lab root", "its common name")
	cmd.Flags().DurationVar(&lifetime, "lifetime", 365*24*time.Hour, "how long it is valid, from 1h to 175200h")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON document")
	return cmd
}
