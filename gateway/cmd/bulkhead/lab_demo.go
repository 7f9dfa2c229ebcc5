package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/bulkhead-dev/bulkhead/gateway/audit"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
	"github.com/bulkhead-dev/bulkhead/tests/lab"
	"github.com/bulkhead-dev/bulkhead/tests/lab/killchain"
)

func labDemoCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Show in a minute what the gateway does, in a lab of its own",
		Long: `Brings up a lab beside any other, lets an agent do its work and then what an attacker
talked it into, promotes a rule from monitor to enforce, and shows and verifies the
audit. Exit code 0 if everything ended as it should.`,
		Example: "  bulkhead lab demo",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := lab.Enter(); err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
			defer cancel()
			exe, err := os.Executable()
			if err != nil {
				return err
			}
			d := &demo{w: cmd.OutOrStdout(), exe: exe}
			return d.run(ctx)
		},
	}
}

type demo struct {
	w     io.Writer
	exe   string
	lab   *lab.Lab
	part  int
	wrong []killchain.Result
}

func (d *demo) run(ctx context.Context) (err error) {
	began := time.Now()
	d.say("A network comes up: two agents, a gateway, the internet, an attacker, a database next door.")
	d.lab, err = lab.Up(ctx, lab.Options{Gateway: d.exe, Progress: func(s string) { fmt.Fprintln(d.w, "  … "+s) }})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.lab.Down()) }()

	parts := []struct {
		say   string
		steps []string
	}{
		{"invoice-agent does its work. What the ruleset permits works as if no gateway were there.",
			[]string{"approved tool call", "approved package download"}},
		{"A web page tells the agent to send the invoices elsewhere. It tries.",
			[]string{"exfiltrate by name", "exfiltrate by address", "permitted SNI, other address", "permitted address, other SNI", "DNS tunnelling",
				"QUIC to a permitted address"}},
		{"Then it looks around the network.", []string{"database next door", "the gateway's admin port"}},
		{"One rule only watches: deny-code-sharing is in monitor mode. The upload works and is reported.",
			[]string{watched}},
	}
	for _, p := range parts {
		d.say(p.say)
		if err := killchain.Run(ctx, d.lab, lab.InvoiceAgent, d.show, p.steps...); err != nil {
			return err
		}
	}
	if err := d.promote(ctx); err != nil {
		return err
	}
	if err := d.audit(ctx); err != nil {
		return err
	}
	if len(d.wrong) > 0 {
		return attackError(d.wrong)
	}
	fmt.Fprintf(d.w, "\nDone in %.0f s. To play with it: bulkhead lab up\n", time.Since(began).Seconds())
	return nil
}

// watched is the step that the monitored rule objects to.
const watched = "watched, not yet refused"

func (d *demo) say(text string) {
	d.part++
	fmt.Fprintf(d.w, "\n%d. %s\n", d.part, text)
}

// show prints one step: what was tried, what came of it, and why.
func (d *demo) show(r killchain.Result) {
	fmt.Fprintln(d.w, r)
	if !r.OK {
		d.wrong = append(d.wrong, r)
	}
}

const (
	ruleBefore = "webGroups: [code-sharing], action: DENY, mode: monitor}"
	ruleAfter  = "webGroups: [code-sharing], action: DENY, mode: enforce}"
)

// promote edits the ruleset's file as a person would, and has the gateway reload it.
func (d *demo) promote(ctx context.Context) error {
	d.say("The report is good enough. The rule is promoted: one word in the file, then SIGHUP.")
	fmt.Fprintf(d.w, "  - deny-code-sharing: %s\n  + deny-code-sharing: %s\n", strings.TrimSuffix(ruleBefore, "}"), strings.TrimSuffix(ruleAfter, "}"))
	before, err := os.ReadFile(d.lab.Paths.Ruleset)
	if err != nil {
		return err
	}
	after := strings.Replace(string(before), ruleBefore, ruleAfter, 1)
	if after == string(before) {
		return errors.New("the lab's ruleset has no monitored rule to promote")
	}
	if err := d.lab.WriteRuleset(after); err != nil {
		return err
	}
	if err := d.lab.Process.Signal(syscall.SIGHUP); err != nil {
		return err
	}
	return killchain.Promoted(ctx, d.lab, lab.InvoiceAgent, watched, d.show)
}

// audit shows the end of the log in words, and has it verified by the command that
// an auditor would use.
func (d *demo) audit(ctx context.Context) error {
	d.say("Every decision is in the audit. Its end, in words:")
	events, err := d.lab.Events()
	if err != nil {
		return err
	}
	rows := [][]string{{"WHO", "VERDICT", "WHERE TO", "RULE AND REASON"}}
	for _, e := range events {
		if row := auditRow(&e); row != nil {
			rows = append(rows, row)
		}
	}
	const shown = 12
	if n := len(rows); n > shown+1 {
		rows = append(rows[:1], rows[n-shown:]...)
	}
	table(indent{d.w}, rows, 98)
	fmt.Fprintf(d.w, "\n  $ bulkhead audit verify audit.jsonl\n")
	cmd := exec.CommandContext(ctx, d.exe, "audit", "verify", d.lab.Paths.Audit)
	cmd.Stdout, cmd.Stderr = indent{d.w}, indent{d.w}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("audit verify: %w", err)
	}
	return nil
}

// auditRow is an event as a person would say it; nil for events of the log itself.
func auditRow(e *audit.Event) []string {
	if e.FirewallRule == nil || e.SrcEndpoint == nil || e.ClassUID == audit.DetectionFinding {
		return nil
	}
	verdict := "permit"
	switch {
	case e.ActionID == 2:
		verdict = "DENY"
	case e.ClassUID == audit.NetworkActivity && e.ActivityID == int(audit.Close):
		verdict = "closed"
	case e.DispositionID == 15:
		verdict = "detect"
	}
	why := e.FirewallRule.Name
	if w := e.Unmapped.Would; w != nil && verdict == "detect" {
		why += ", would be " + w.Rule
	} else if reason := e.StatusDetail; reason != string(policy.ReasonRule) && reason != why {
		why += ", " + reason
	}
	return []string{e.Unmapped.Workload, verdict, whereTo(e), why}
}

// whereTo is the name that was asked for, or the address with the name that was claimed.
func whereTo(e *audit.Event) string {
	if e.Query != nil {
		return "DNS " + e.Query.Hostname
	}
	if e.DstEndpoint == nil {
		return ""
	}
	to := e.DstEndpoint.IP
	if e.ConnectionInfo != nil {
		to = e.ConnectionInfo.ProtocolName + " " + to
	}
	if e.DstEndpoint.Port != 0 {
		to += fmt.Sprintf(":%d", e.DstEndpoint.Port)
	}
	if e.DstEndpoint.Hostname != "" {
		to += " " + e.DstEndpoint.Hostname
	}
	return to
}

// indent sets what is written in by two spaces; each write ends a line.
type indent struct{ w io.Writer }

func (i indent) Write(p []byte) (int, error) {
	text := strings.TrimSuffix(string(p), "\n")
	_, err := io.WriteString(i.w, "  "+strings.ReplaceAll(text, "\n", "\n  ")+"\n")
	return len(p), err
}
