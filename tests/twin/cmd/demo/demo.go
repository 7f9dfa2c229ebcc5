package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/appcontainers/armappcontainers/v3"

	"github.com/bulkhead-dev/bulkhead/gateway/policyblob"
	"github.com/bulkhead-dev/bulkhead/gateway/probe"
	"github.com/bulkhead-dev/bulkhead/tests/lab"
	"github.com/bulkhead-dev/bulkhead/tests/lab/killchain"
	"github.com/bulkhead-dev/bulkhead/tests/twin/boot"
	"github.com/bulkhead-dev/bulkhead/tests/twin/engine"
	"github.com/bulkhead-dev/bulkhead/tests/twin/planes"
	"github.com/bulkhead-dev/bulkhead/tests/twin/publisher"
	"github.com/bulkhead-dev/bulkhead/tests/twin/subscription"
)

type demo struct {
	bundle, binary string
	verbose        bool
	w              io.Writer
	dir            string
	part           int

	sub   *subscription.Subscription
	cli   *engine.CLI
	spoke *boot.Spoke // nil until the machine exists
	wrong []killchain.Result

	before []string // ids of what was there before the spoke, such as the subscription itself
}

// program is what a platform engineer writes.
const program = `name: spoke
runtime: yaml
config:
  registryId: {type: string} # of contoso.azurecr.io
resources:
  spoke:
    type: bulkhead:FoundrySpoke
    properties:
      location: eastus2
      rulesetFile: ruleset.yaml
      bundleFile: %q
      canary: {image: "contoso.azurecr.io/bulkhead:0.1.0", registryId: "${registryId}", required: true}
      deployerAddresses: [%s]
      protect: false # or pulumi destroy would be refused
outputs:
  agentSubnetId: ${spoke.agentSubnetId}
  rulesetDigest: ${spoke.rulesetDigest}
`

// The change of policy: a rule that only watched is enforced, and one more name may be called.
var edits = []struct{ old, new string }{
	{"webGroups: [code-sharing], action: DENY, mode: monitor}", "webGroups: [code-sharing], action: DENY, mode: enforce}"},
	{"fqdns: [api.github.com", "fqdns: [invoices.contoso.com, api.github.com"},
}

const (
	watched = "watched, not yet refused" // the step that the monitored rule objects to
	added   = "invoices.contoso.com"
)

// part is one of the demonstration, which the others before it have led up to.
type part = func(d *demo, ctx context.Context) error

// whole is all of it.
var whole = []part{(*demo).preview, (*demo).up, (*demo).data, (*demo).attack, (*demo).change, (*demo).audit, (*demo).destroy}

func (d *demo) run(ctx context.Context, parts []part) (err error) {
	if err := d.open(); err != nil {
		return err
	}
	began := time.Now()
	if d.sub, err = subscription.Start(d.dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.sub.Close()) }()
	d.sub.RunJobs(func(job json.RawMessage) (string, time.Time, time.Time) { return d.probe(ctx, job) })
	defer func() {
		if d.spoke != nil {
			err = errors.Join(err, d.spoke.Down())
		}
	}()
	if err := d.prepare(ctx); err != nil {
		return err
	}
	for _, part := range parts {
		if err := part(d, ctx); err != nil {
			return err
		}
	}
	if len(d.wrong) > 0 {
		return fmt.Errorf("%d steps did not end as they should", len(d.wrong))
	}
	fmt.Fprintf(d.w, "\nDone in %.0f s. The engine, the components, the gateway, its packets and its clients are real; Azure was the twin (tests/twin).\n", time.Since(began).Seconds())
	return nil
}

func (d *demo) say(text string) {
	d.part++
	fmt.Fprintf(d.w, "\n%d. %s\n", d.part, text)
}

func (d *demo) note(text string) { fmt.Fprintln(d.w, "  … "+text) }

// open prepares the engine with the product's plugin and Azure's stand-in. What is missing is
// built, which takes minutes the first time.
func (d *demo) open() (err error) {
	d.cli, err = engine.NewCLI(d.dir,
		engine.Plugin{Name: "bulkhead", Version: "0.1.0-dev", Package: "./components/cmd/pulumi-resource-bulkhead"},
		engine.Plugin{Name: "azure-native", Version: "2.90.0", Package: "./tests/twin/cmd/pulumi-resource-azure-native"})
	return err
}

// prepare writes the program and its ruleset, and leads the engine to the twin.
func (d *demo) prepare(ctx context.Context) (err error) {
	project := d.project()
	if err := os.MkdirAll(project, 0o755); err != nil {
		return err
	}
	text := fmt.Sprintf(program, d.bundle, planes.DeployerAddress)
	rules := strings.NewReplacer("file:FEEDS/", "https://"+boot.FeedsName+"/", "allow-agent-infra,       priority: 50", "allow-agent-infra,       priority: 12").Replace(lab.Ruleset)
	// The canary is held to what agents are, and may have its image.
	rules = strings.NewReplacer("cidrs: [10.20.1.0/24]", "cidrs: [10.20.1.0/24, 10.20.3.0/27]", "smartGroups:\n", "smartGroups:\n  - {name: canary,                cidrs: [10.20.3.0/27]}\n",
		"webGroups:\n", "webGroups:\n  - name: canary-image\n    fqdns: [contoso.azurecr.io, contoso.eastus2.data.azurecr.io]\n",
		"rules:\n", "rules:\n  - {name: allow-canary-image,      priority: 5, sources: [canary], webGroups: [canary-image], ports: [tcp/443], action: PERMIT, decrypt: DECRYPT_NOT_ALLOWED}\n").Replace(rules)
	for name, content := range map[string]string{"Pulumi.yaml": text, "ruleset.yaml": rules} {
		if err := os.WriteFile(filepath.Join(project, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	d.cli.Setenv(d.sub.Environment(planes.Deployer)...)
	feed := &publisher.Site{Host: boot.FeedsName}
	feed.Publish("# seen attacking\n" + lab.Malicious.String() + "\n")
	d.sub.Front.Handle(boot.FeedsName, feed)
	d.say("A platform engineer writes a program. It is all that follows from:")
	for line := range strings.Lines(text) {
		fmt.Fprint(d.w, "  "+line)
	}
	if _, err = d.pulumi(ctx, "stack", "init", "dev"); err != nil {
		return err
	}
	registry, err := d.sub.Registry("contoso")
	if err != nil {
		return err
	}
	if d.before, err = d.sub.Left(); err != nil {
		return err
	}
	fmt.Fprintf(d.w, "\n  $ pulumi config set registryId %s\n", registry)
	_, err = d.pulumi(ctx, "config", "set", "registryId", registry)
	return err
}

func (d *demo) project() string { return filepath.Join(d.dir, "spoke") }

// pulumi runs the engine and returns what it printed.
func (d *demo) pulumi(ctx context.Context, args ...string) (string, error) {
	cmd := d.cli.Command(ctx, d.project(), append(args, "--non-interactive", "--color", "never")...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if d.verbose {
		cmd.Stdout, cmd.Stderr = io.MultiWriter(&out, d.w), io.MultiWriter(&out, d.w)
	}
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("pulumi %s: %w\n%s", args[0], err, out.String())
	}
	return out.String(), nil
}

// preview shows what would be made.
func (d *demo) preview(ctx context.Context) error {
	d.say("$ pulumi preview")
	out, err := d.pulumi(ctx, "preview")
	if err != nil {
		return err
	}
	d.digest(out)
	return nil
}

// digest prints the parts of the engine's output that a person reads: what is said of resources, and
// the sum. What a type's resources said in the preview need not be said again.
func (d *demo) digest(out string, but ...string) {
	shown := false
	for line := range strings.Lines(out) {
		text := strings.TrimRight(line, "\n")
		kind, _, of := strings.Cut(strings.TrimSpace(text), " (")
		switch {
		case strings.HasPrefix(text, "Diagnostics:"), strings.HasPrefix(text, "Resources:"):
			shown = true
		case strings.HasPrefix(text, "Outputs:"), strings.HasPrefix(text, "Duration:"):
			shown = false
		case of && strings.HasPrefix(text, "  bulkhead:index:"):
			if shown = !slices.Contains(but, kind); shown {
				fmt.Fprintln(d.w, "  "+text)
			}
		case shown && strings.TrimSpace(text) != "":
			fmt.Fprintln(d.w, "  "+text)
		}
	}
}

// up deploys, and boots the gateway's machine as soon as there is one: the agents' subnet is not
// made before the gateway has shown what it enforces.
func (d *demo) up(ctx context.Context) error {
	d.say("$ pulumi up: the gateway first, then, once it has shown what it enforces, the agents' subnet")
	began := time.Now()
	type result struct {
		out string
		err error
	}
	done := make(chan result, 1)
	go func() {
		out, err := d.pulumi(ctx, "up", "--yes", "--skip-preview")
		done <- result{out, err}
	}()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case r := <-done:
			if r.err != nil {
				return r.err
			}
			d.digest(r.out)
			state, err := d.sub.Resources()
			if err != nil {
				return err
			}
			if d.spoke == nil {
				return errors.New("pulumi up ended, and no machine was made")
			}
			d.note(fmt.Sprintf("in %.0f s; agents move in", time.Since(began).Seconds()))
			return d.spoke.Follow(state)
		case <-tick.C:
		}
		if d.spoke != nil {
			continue
		}
		if err := d.boot(ctx); err != nil {
			return err
		}
	}
}

// boot starts the machine, if it is there.
func (d *demo) boot(ctx context.Context) error {
	state, err := d.sub.Resources()
	if err != nil {
		return err
	}
	if _, err := boot.Network(state); errors.Is(err, boot.ErrNoGateway) {
		return nil
	}
	d.note("the machine is there, and boots:")
	d.spoke, err = boot.Up(ctx, boot.Options{State: state, Front: d.sub.Front, Tokens: d.sub.Tokens, Progress: d.note})
	return err
}

// probe is the canary's job, run in its subnet before there could be an account: what it finds is shown.
func (d *demo) probe(ctx context.Context, job json.RawMessage) (status string, began, ended time.Time) {
	d.note("the canary's job is started in its own subnet, with the agents' routes; agents wait for it:")
	e, err := d.execute(ctx, job)
	if err != nil {
		d.note(err.Error())
		return string(armappcontainers.JobExecutionRunningStateFailed), time.Now(), time.Now()
	}
	var said struct{ Findings []probe.Finding }
	if err := json.Unmarshal([]byte(e.Replicas[len(e.Replicas)-1].Output), &said); err != nil {
		d.note(e.Replicas[len(e.Replicas)-1].Output)
	}
	for _, f := range said.Findings {
		mark := "ok  "
		if !f.OK {
			mark = "FAIL"
		}
		fmt.Fprintf(d.w, "    %s  %s: %s\n", mark, f.Check, f.Found)
	}
	return string(e.Status), e.Began, e.Ended
}

func (d *demo) execute(ctx context.Context, job json.RawMessage) (boot.Execution, error) {
	state, err := d.sub.Resources()
	if err != nil {
		return boot.Execution{}, err
	}
	if err := d.spoke.Follow(state); err != nil {
		return boot.Execution{}, err
	}
	return d.spoke.RunJob(ctx, job, filepath.Dir(d.binary))
}

// attack plays the kill chain.
func (d *demo) attack(ctx context.Context) error {
	for _, p := range []struct {
		say   string
		steps []string
	}{
		{"An agent in the new subnet does its work.", []string{"approved tool call", "approved package download"}},
		{"A web page tells it to send the invoices elsewhere. It tries.",
			[]string{"exfiltrate by name", "exfiltrate by address", "permitted SNI, other address", "permitted address, other SNI", "DNS tunnelling",
				"QUIC to a permitted address", "database next door", "the gateway's admin port", "another agent, same subnet", "Azure's own resolver"}},
		{"One rule only watches: deny-code-sharing is in monitor mode.", []string{watched}},
	} {
		d.say(p.say)
		if err := killchain.Run(ctx, d.spoke.Lab, lab.InvoiceAgent, d.show, p.steps...); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) show(r killchain.Result) {
	fmt.Fprintln(d.w, r)
	if !r.OK {
		d.wrong = append(d.wrong, r)
	}
}

// change edits the policy, reads what that opens and closes, and applies it.
func (d *demo) change(ctx context.Context) error {
	d.say("The policy changes: the rule is enforced, and agents may call " + added + ".")
	file := filepath.Join(d.project(), "ruleset.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	after := string(text)
	for _, e := range edits {
		if !strings.Contains(after, e.old) {
			return fmt.Errorf("the ruleset has no %q", e.old)
		}
		after = strings.Replace(after, e.old, e.new, 1)
		fmt.Fprintf(d.w, "  - %s\n  + %s\n", e.old, e.new)
	}
	if err := os.WriteFile(file, []byte(after), 0o644); err != nil {
		return err
	}
	if err := d.spoke.Upstream.Add(added + ". 60 IN A " + lab.Contoso.String()); err != nil {
		return err
	}
	if err := d.reach(ctx); err == nil {
		return fmt.Errorf("%s is reached before the policy permits it", added)
	}
	fmt.Fprintln(d.w, "\n  $ pulumi preview")
	out, err := d.pulumi(ctx, "preview")
	if err != nil {
		return err
	}
	d.digest(out)
	before := d.report()
	fmt.Fprintln(d.w, "\n  $ pulumi up")
	began := time.Now()
	if out, err = d.pulumi(ctx, "up", "--yes", "--skip-preview"); err != nil {
		return err
	}
	d.digest(out, "bulkhead:index:Ruleset")
	now := d.report()
	fmt.Fprintf(d.w, "  … in %.0f s: the gateway reports serial %d, %.19s…; it was serial %d\n", time.Since(began).Seconds(), now.Serial, now.Digest, before.Serial)
	if err := d.reach(ctx); err != nil {
		return fmt.Errorf("%s is not reached after the policy permits it: %w", added, err)
	}
	fmt.Fprintf(d.w, "  PERMIT  GET https://%s\n", added)
	return killchain.Promoted(ctx, d.spoke.Lab, lab.InvoiceAgent, watched, d.show)
}

// reach calls the name that the change is about, from the agent.
func (d *demo) reach(ctx context.Context) error {
	client := d.spoke.Host(lab.InvoiceAgent).HTTPClient(d.spoke.Lab)
	resp, err := client.Get("https://" + added + "/")
	if err == nil {
		resp.Body.Close()
	}
	return err
}

// report is what the gateway says of itself.
func (d *demo) report() (r policyblob.Report) {
	resp, err := d.spoke.Process.Admin(context.Background(), "/readyz")
	if err != nil {
		return r
	}
	defer resp.Body.Close()
	var ready struct {
		Ruleset struct {
			Digest string `json:"digest"`
			Serial uint64 `json:"serial"`
		} `json:"ruleset"`
	}
	if json.NewDecoder(resp.Body).Decode(&ready) == nil {
		r.Digest, r.Serial = ready.Ruleset.Digest, ready.Ruleset.Serial
	}
	return r
}

// audit has the machine's log verified.
func (d *demo) audit(ctx context.Context) error {
	d.say("Every decision is in the audit on the machine.")
	fmt.Fprintln(d.w, "  $ bulkhead audit verify /var/log/bulkhead/audit.jsonl")
	out, err := exec.CommandContext(ctx, d.binary, "audit", "verify", d.spoke.Paths.Audit).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		fmt.Fprint(d.w, "  "+line)
	}
	return err
}

// destroy takes everything down, and says what is left.
func (d *demo) destroy(ctx context.Context) error {
	d.say("$ pulumi destroy")
	out, err := d.pulumi(ctx, "destroy", "--yes", "--skip-preview")
	if err != nil {
		return err
	}
	d.digest(out)
	left, err := d.sub.Left()
	if err != nil {
		return err
	}
	left = slices.DeleteFunc(left, func(id string) bool { return slices.Contains(d.before, id) })
	if len(left) > 0 {
		return fmt.Errorf("left behind: %s", strings.Join(left, ", "))
	}
	d.note("nothing is left but the deleted vault, whose name Azure keeps for a while")
	return nil
}
