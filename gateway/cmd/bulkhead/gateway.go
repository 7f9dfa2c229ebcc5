package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"syscall"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/bulkhead-dev/bulkhead/components/azure"
	"github.com/bulkhead-dev/bulkhead/gateway/config"
	"github.com/bulkhead-dev/bulkhead/gateway/packet"
	"github.com/bulkhead-dev/bulkhead/gateway/server"
)

// defaultConfig is where a gateway's configuration is on its VM.
const defaultConfig = "/etc/bulkhead/gateway.yaml"

func gatewayCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "gateway",
		Short: "Run the gateway",
		Long: `Runs the gateway: loads the kernel program, answers DNS, enforces the ruleset and
writes every decision to the audit. Logs go to standard error.

SIGHUP, or a change of the file, reloads the ruleset; a bad one is refused and the
last good one stays in force. SIGTERM lets flows end and exits 0; the kernel program
stays, so that closed stays closed.`,
		Example: `  bulkhead gateway --config /etc/bulkhead/gateway.yaml`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(file)
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			log := hclog.New(&hclog.LoggerOptions{Name: "bulkhead", Level: hclog.Info, Output: os.Stderr})
			return server.Run(ctx, cfg, log, version, azure.ServiceTags)
		},
	}
	cmd.Flags().StringVar(&file, "config", defaultConfig, "the gateway's configuration")
	return cmd
}

func lockdownCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "lockdown",
		Short: "Load the kernel program with nothing permitted, and exit",
		Long: `Loads the kernel program with nothing permitted and exits, so that nothing passes
before the gateway runs. Run it before the network is up.`,
		Example: `  bulkhead lockdown --config /etc/bulkhead/gateway.yaml`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(file)
			if err != nil {
				return err
			}
			dns := cfg.DNS.Listen.AddrPort
			if !dns.IsValid() { // the network, and with it the address, is still to come
				dns = netip.AddrPortFrom(netip.IPv4Unspecified(), 53)
			}
			if err := packet.Lockdown(server.PacketConfig(cfg, dns)); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "locked down: nothing passes until the gateway runs")
			return nil
		},
	}
	cmd.Flags().StringVar(&file, "config", defaultConfig, "the gateway's configuration")
	return cmd
}
