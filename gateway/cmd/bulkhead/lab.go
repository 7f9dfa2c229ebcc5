package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/bulkhead-dev/bulkhead/tests/lab"
	"github.com/bulkhead-dev/bulkhead/tests/lab/keeper"
	"github.com/bulkhead-dev/bulkhead/tests/lab/killchain"
)

// keepCommand is the hidden command that `lab up` runs in the background.
const keepCommand = "keep"

func labCommand() *cobra.Command {
	cmd := group("lab", "A network to try the gateway in: agents, internet, attacker, all on this machine",
		`  bulkhead lab up
  bulkhead lab exec invoice-agent -- curl https://api.github.com/user
  bulkhead lab attack
  bulkhead lab down`,
		labUpCommand(), labExecCommand(), labAttackCommand(), labStatusCommand(), labDownCommand(), labDemoCommand(), labKeepCommand())
	cmd.Long = `Builds the network around a gateway out of network namespaces and real packets: two
agents, the gateway, the internet, an attacker, a database in the spoke next door, and
what Azure delivers without asking any gateway. Works as root and, where the kernel
allows user namespaces, as any user. Nothing leaves the machine, and nothing of the
machine's own network is touched.`
	return cmd
}

func labUpCommand() *cobra.Command {
	var twoArm, asJSON bool
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Bring the lab up and leave it running",
		Example: `  bulkhead lab up
  bulkhead lab up --two-arm`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			exe, err := os.Executable()
			if err != nil {
				return err
			}
			dir := keeper.Dir()
			command := []string{exe, "lab", keepCommand, "--dir", dir}
			if twoArm {
				command = append(command, "--two-arm")
			}
			if err := keeper.Start(dir, command, func(s string) { fmt.Fprintln(cmd.ErrOrStderr(), "… "+s) }); err != nil {
				return err
			}
			return printLabStatus(cmd, dir, asJSON)
		},
	}
	cmd.Flags().BoolVar(&twoArm, "two-arm", false, "give the gateway a second network interface, towards the agents")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON document")
	return cmd
}

func labKeepCommand() *cobra.Command {
	var opt keeper.Options
	cmd := &cobra.Command{
		Use:     keepCommand,
		Short:   "Hold the lab open; `lab up` starts this",
		Example: "  bulkhead lab up",
		Hidden:  true,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if opt.Gateway, err = os.Executable(); err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			return keeper.Keep(ctx, opt, os.Stdout)
		},
	}
	cmd.Flags().StringVar(&opt.Dir, "dir", keeper.Dir(), "folder of the lab's socket and files")
	cmd.Flags().BoolVar(&opt.TwoArm, "two-arm", false, "give the gateway a second network interface, towards the agents")
	return cmd
}

func labExecCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "exec HOST -- COMMAND [ARG…]",
		Short: "Run a program on one of the lab's hosts",
		Long: `Runs a program with this terminal, environment and folder, but in the network of a
host of the lab, with that host's resolver and with the lab's certificate authority
trusted. Exits with the program's status.`,
		Example: `  bulkhead lab exec invoice-agent -- curl https://api.github.com/user
  bulkhead lab exec gateway -- cat /proc/net/dev`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(program(args)) == 0 {
				return errors.New("name a host and a program, such as: invoice-agent -- curl https://api.github.com/user")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			code, err := keeper.Exec(cmd.Context(), keeper.Dir(), args[0], program(args))
			if err == nil && code != 0 {
				err = &exit{code, ""}
			}
			return err
		},
	}
	cmd.Flags().SetInterspersed(false) // what follows the host is the program's
	return cmd
}

// program is what follows the host, with or without a "--" between them.
func program(args []string) []string {
	args = args[min(1, len(args)):]
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	return args
}

func labAttackCommand() *cobra.Command {
	var from string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "attack",
		Short: "Play what a prompt-injected agent would try, and show what became of it",
		Long: `Plays the kill chain of an injected agent in the lab that is up, in order, and prints
one table. What the agent saw comes from its sockets; verdict, rule and reason from the
gateway's audit log; whether anything leaked from captures on the other side.

Exit code 0 if every step ended as it should, else 1.`,
		Example: `  bulkhead lab attack
  bulkhead lab attack --from research-agent --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			results := []killchain.Result{}
			if err := keeper.Attack(ctx, keeper.Dir(), from, func(r killchain.Result) { results = append(results, r) }); err != nil {
				return err
			}
			if asJSON {
				if err := printJSON(cmd.OutOrStdout(), results); err != nil {
					return err
				}
			} else {
				printAttack(cmd.OutOrStdout(), results)
			}
			return attackError(results)
		},
	}
	cmd.Flags().StringVar(&from, "from", lab.InvoiceAgent, "the agent that has been injected")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON document")
	return cmd
}

// attackError says which steps did not end as they should.
func attackError(results []killchain.Result) error {
	var wrong []string
	for _, r := range results {
		if !r.OK {
			wrong = append(wrong, fmt.Sprintf("%s: %s", r.Step, r.Problem))
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d steps did not end as they should\n  %s", len(wrong), len(results), strings.Join(wrong, "\n  "))
}

func labStatusCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "Say whether the lab is up, who is in it and where its files are",
		Example: "  bulkhead lab status --json",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return printLabStatus(cmd, keeper.Dir(), asJSON) },
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON document")
	return cmd
}

func printLabStatus(cmd *cobra.Command, dir string, asJSON bool) error {
	s, err := keeper.GetStatus(cmd.Context(), dir)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(cmd.OutOrStdout(), s)
	}
	writeLabStatus(cmd.OutOrStdout(), s)
	return nil
}

func writeLabStatus(w io.Writer, s *keeper.Status) {
	gateway := fmt.Sprintf("process %d", s.Gateway)
	if s.Gateway == 0 {
		gateway = "has ended; its log says why"
	}
	fmt.Fprintf(w, "The lab is up, process %d.\n\n  gateway   %s\n  ruleset   %s\n  audit     %s\n  log       %s\n\n", s.PID, gateway, s.Paths.Ruleset, s.Paths.Audit, s.Paths.Log)
	for _, h := range s.Hosts {
		fmt.Fprintf(w, "  %-18s %s\n", h.Name, h.Addr)
	}
	fmt.Fprint(w, "\nTry  bulkhead lab exec invoice-agent -- curl https://api.github.com/user\nand  bulkhead lab attack\n")
}

func labDownCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "down",
		Short:   "Take the lab down, with everything that runs in it",
		Example: "  bulkhead lab down",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := keeper.Stop(cmd.Context(), keeper.Dir())
			if err != nil && !errors.Is(err, keeper.ErrDown) {
				return err
			}
			wasUp := err == nil
			if asJSON {
				return printJSON(cmd.OutOrStdout(), map[string]bool{"wasUp": wasUp})
			}
			text := "The lab is down."
			if !wasUp {
				text = "No lab was up."
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON document")
	return cmd
}
