package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// question is what explain is asked about.
type question struct {
	src, dst     addrFlag
	port         uint16
	proto        string
	name         string
	pinned       string
	method, path string
	rpc, tool    string
}

func explainCommand() *cobra.Command {
	var from source
	var q question
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "explain FILE --src IP [--dst IP --port N] [--name FQDN]",
		Short: "Say what a ruleset makes of one flow, rule by rule",
		Long: `Judges one flow with the evaluator that the gateway runs, and prints the verdict and
what every rule said. --name without --dst is a DNS question. Without --name, on a
port where names exist, the name is not yet known; --name "" says that the flow
claims none. Without --method, a verdict that depends on the request is pending;
without --tool or --rpc-method, one that depends on the message in it.

Exit code 0 permitted, 3 denied, 1 for a ruleset with errors.`,
		Example: `  bulkhead policy explain ruleset.yaml --src 10.20.1.20 --name api.github.com
  bulkhead policy explain ruleset.yaml --src 10.20.1.20 --dst 45.33.32.156 --port 443 --name api.github.com --pinned=false
  bulkhead policy explain ruleset.yaml --src 10.20.1.20 --dst 10.30.4.10 --port 5432 --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			flow, nameKnown, err := q.flow(cmd)
			if err != nil {
				return &usage{fmt.Errorf("%w\nsee '%s --help'", err, cmd.CommandPath())}
			}
			r, err := from.compile(args[0], cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			e := r.Explain(flow, nameKnown)
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), e)
			} else {
				err = printExplanation(cmd.OutOrStdout(), &e)
			}
			if err == nil && e.Verdict != policy.Permit {
				err = &exit{exitDenied, ""}
			}
			return err
		},
	}
	from.flags(cmd)
	f := cmd.Flags()
	f.Var(&q.src, "src", "the agent's address (required)")
	f.Var(&q.dst, "dst", "the destination; absent: a DNS question for --name")
	f.Uint16Var(&q.port, "port", 0, "the destination port")
	f.StringVar(&q.proto, "proto", "tcp", "protocol, by name or number")
	f.StringVar(&q.name, "name", "", "the name that the flow claims (SNI, Host or question)")
	f.StringVar(&q.pinned, "pinned", "true", "the destination was resolved by the gateway for the name (true), for none (false), for another one (other)")
	f.StringVar(&q.method, "method", "", "HTTP method")
	f.StringVar(&q.path, "path", "/", "HTTP path")
	f.StringVar(&q.rpc, "rpc-method", "", "JSON-RPC method of the message in a POST, such as tools/list")
	f.StringVar(&q.tool, "tool", "", "MCP tool that the message calls (implies --method POST, --rpc-method tools/call and --path /mcp)")
	f.BoolVar(&asJSON, "json", false, "print one JSON document")
	return cmd
}

// flow turns flags into facts.
func (q *question) flow(cmd *cobra.Command) (flow policy.Flow, nameKnown bool, err error) {
	nameKnown = cmd.Flags().Changed("name")
	if !q.src.IsValid() {
		return flow, false, errors.New("--src is required: the agent's address, such as --src 10.20.1.20")
	}
	flow = policy.Flow{Src: q.src.Addr, Dst: q.dst.Addr, Port: q.port}
	if q.name != "" {
		var ok bool
		// A claimed name that is no host name counts as none; a question must have one.
		if flow.Name, ok = policy.NormalizeName(q.name); !ok && !q.dst.IsValid() {
			return flow, false, fmt.Errorf("--name %q is not a host name", q.name)
		}
	}
	if !q.dst.IsValid() {
		if flow.Name == "" {
			return flow, false, errors.New("give --dst and --port for a flow, or --name for a DNS question")
		}
		flow.Stage = policy.StageDNS
		return flow, true, nil
	}
	if flow.Proto, err = policy.ParseProto(q.proto); err != nil {
		return flow, false, fmt.Errorf("--proto: %w", err)
	}
	if flow.Proto.HasPorts() && q.port == 0 {
		return flow, false, fmt.Errorf("--port is required with %s", flow.Proto)
	}
	switch q.pinned {
	case "true":
		flow.Pin = policy.PinMatch
	case "false":
		flow.Pin = policy.PinNone
	case "other":
		flow.Pin = policy.PinOther
	default:
		return flow, false, fmt.Errorf("--pinned %q is not true, false or other", q.pinned)
	}
	flow.Stage = policy.StageName
	flow.Wire = policy.WireTLS
	if flow.Port == 80 {
		flow.Wire = policy.WireHTTP
	}
	if q.tool != "" && q.rpc == "" {
		q.rpc = "tools/call"
	}
	if q.rpc != "" {
		flow.RPC = &policy.RPC{Method: q.rpc, Tool: q.tool}
		if q.method == "" {
			q.method = "POST"
		}
		if !cmd.Flags().Changed("path") {
			q.path = "/mcp"
		}
	}
	if q.method != "" {
		flow.Stage, flow.Method = policy.StageRequest, strings.ToUpper(q.method)
		if flow.Path, err = policy.NormalizePath(q.path); err != nil {
			return flow, false, fmt.Errorf("--path: %w", err)
		}
	}
	return flow, nameKnown, nil
}

func printExplanation(w io.Writer, e *policy.Explanation) error {
	fmt.Fprintf(w, "%s by %s (%s)\n", e.Verdict, e.Rule, e.Reason)
	fmt.Fprintf(w, "  stage %s, tier %s, %s, %s\n", e.Stage, e.Tier, e.Mode, e.Decrypt)
	if e.Pending != "" {
		fmt.Fprintf(w, "  still depends on the %s\n", e.Pending)
	}
	for _, would := range e.Would {
		fmt.Fprintf(w, "  with everything enforced: %s by %s\n", would.Verdict, would.Rule)
	}
	for _, c := range e.Conditions {
		fmt.Fprintf(w, "  condition: %s\n", c)
	}
	if e.NoData {
		fmt.Fprintln(w, "  answered without data instead of NXDOMAIN, because names below it resolve")
	}
	for _, m := range e.Missing {
		fmt.Fprintf(w, "  no data for %s: its group matches nothing\n", m)
	}
	width := 0
	for _, s := range e.Trace {
		width = max(width, len(s.Rule))
	}
	var err error
	for _, s := range e.Trace {
		_, err = fmt.Fprintf(w, "  %-*s  %-7s  %s\n", width, s.Rule, s.Match, s.Because)
	}
	return err
}
