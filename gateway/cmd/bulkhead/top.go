package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/bulkhead-dev/bulkhead/gateway/server"
)

func topCommand() *cobra.Command {
	var at admin
	var asJSON, once bool
	var every time.Duration
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show live flows and the latest denials",
		Long: `Shows what goes through the gateway on this machine by name, and what was refused
lately, until interrupted. Flows that the kernel forwards by address are in the audit
only.`,
		Example: `  bulkhead top
  bulkhead top --once --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			for {
				var a server.Activity
				if err := at.get(ctx, "/flows", &a); err != nil {
					if ctx.Err() != nil {
						return nil
					}
					return err
				}
				if asJSON {
					return printJSON(cmd.OutOrStdout(), a)
				}
				if !once && isTerminal(os.Stdout) {
					fmt.Fprint(cmd.OutOrStdout(), "\x1b[H\x1b[2J") // home, clear (ECMA-48)
				}
				printActivity(cmd.OutOrStdout(), &a)
				if once {
					return nil
				}
				if !pause(ctx, every) {
					return nil
				}
			}
		},
	}
	at.flags(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON document, and exit")
	cmd.Flags().BoolVar(&once, "once", false, "print once, and exit")
	cmd.Flags().DurationVar(&every, "every", 2*time.Second, "how often to look")
	return cmd
}

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func printActivity(w io.Writer, a *server.Activity) {
	const rows = 20
	fmt.Fprintf(w, "%d live flows\n", a.Total)
	for i, f := range a.Flows {
		if i == rows {
			fmt.Fprintf(w, "  … and %d more\n", a.Total-rows)
			break
		}
		fmt.Fprintf(w, "  %-15s  %-40s  %-24s  %s\n", f.Src.Addr(), place(f.Dst.String(), f.Name), f.Rule, time.Since(f.Since).Round(time.Second))
	}
	fmt.Fprintf(w, "latest denials\n")
	for i, d := range a.Denials {
		if i == rows {
			break
		}
		dst := ""
		if d.Dst.IsValid() {
			dst = d.Dst.String()
		}
		fmt.Fprintf(w, "  %-15s  %-40s  %-24s  %s  ×%d\n", d.Src, place(dst, d.Name), d.Rule, d.Reason, d.Count)
	}
}

// place names a destination by its name and address, as far as they are known.
func place(addr, name string) string {
	switch {
	case name == "":
		return addr
	case addr == "":
		return name
	}
	return name + " " + addr
}
