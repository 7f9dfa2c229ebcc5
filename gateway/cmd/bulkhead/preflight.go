package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/spf13/cobra"

	"github.com/bulkhead-dev/bulkhead/components/azure"
	"github.com/bulkhead-dev/bulkhead/components/preflight"
)

// readTimeout bounds how long Azure is asked; effective routes alone take half a minute.
const readTimeout = 10 * time.Minute

func preflightCommand() *cobra.Command {
	var scope preflight.Scope
	var inventory, save, ruleset string
	var skips skipFlag
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "preflight",
		Short: "Say what in Azure would break a spoke, or let an agent past its gateway",
		Long: `Reads a spoke and its surroundings from Azure, with the identity that az, a managed
identity or the environment gives, and changes nothing. Then it judges every guard of
docs/reference/preflight.md: what was found, what is wanted, why, and the way out.

A saved inventory is judged in the same way, without Azure: --save writes one.

A guard whose data could not be read is "not checked" and has not passed. One that you
do not want is skipped with the reason in writing, which the report repeats.

Exit code 0, or 1 where a guard fails or could not be checked whose failure forbids to
go on. Warnings change nothing.`,
		Example: `  bulkhead preflight --subscription 00000000-0000-0000-0000-000000000000 --resource-group rg-agents \
    --vnet vnet-agents --agent-subnet agents --account foundry-contoso --ruleset ruleset.yaml --save spoke.json
  bulkhead preflight --inventory spoke.json --skip 'NET-12=a /26 is enough for this test' --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			live := scope != preflight.Scope{}
			switch {
			case inventory != "" && live:
				return &usage{errors.New("--inventory is judged without Azure: leave the flags out that say what to read there")}
			case inventory == "" && (scope.Subscription == "" || scope.ResourceGroup == "" || scope.VNet == "" || scope.AgentSubnet == ""):
				return &usage{errors.New("give --inventory, or --subscription, --resource-group, --vnet and --agent-subnet")}
			}
			inv, err := readInventory(cmd, scope, inventory, ruleset)
			if err != nil {
				return err
			}
			if save != "" {
				data, err := inv.Encode()
				if err != nil {
					return err
				}
				if err := os.WriteFile(save, append(data, '\n'), 0o600); err != nil {
					return err
				}
			}
			report, err := preflight.Run(inv, preflight.Options{Skips: skips})
			if err != nil {
				return &usage{err}
			}
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), struct {
					Ok bool `json:"ok"`
					preflight.Report
				}{report.Ok(), report})
			} else {
				err = report.Format(cmd.OutOrStdout(), isTerminal(os.Stdout) && os.Getenv("NO_COLOR") == "")
			}
			if err != nil {
				return err
			}
			if !report.Ok() {
				return &exit{exitFailure, ""}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&inventory, "inventory", "", "judge this saved inventory instead of asking Azure")
	f.StringVar(&save, "save", "", "write the inventory to this file")
	f.StringVar(&scope.Subscription, "subscription", "", "the subscription's id")
	f.StringVar(&scope.ResourceGroup, "resource-group", "", "the spoke's resource group")
	f.StringVar(&scope.VNet, "vnet", "", "the virtual network's name")
	f.StringVar(&scope.AgentSubnet, "agent-subnet", "", "the agent subnet's name")
	f.StringVar(&scope.Account, "account", "", "the Foundry account's name; absent: the one that uses the subnet")
	f.StringVar(&ruleset, "ruleset", "", "the ruleset that is to be published; absent: the published one is judged")
	f.Var(&skips, "skip", "leave a guard out, with the reason in writing (repeat it for more)")
	f.BoolVar(&asJSON, "json", false, "print one JSON document")
	return cmd
}

// readInventory reads a saved inventory, or Azure; a ruleset given is the planned one.
func readInventory(cmd *cobra.Command, scope preflight.Scope, file, ruleset string) (preflight.Inventory, error) {
	var document []byte
	if ruleset != "" {
		data, err := os.ReadFile(ruleset)
		if err != nil {
			return preflight.Inventory{}, fmt.Errorf("ruleset: %w", err)
		}
		document = data
	}
	if file == "" {
		credential, err := azidentity.NewDefaultAzureCredential(nil)
		if err != nil {
			return preflight.Inventory{}, err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), readTimeout)
		defer cancel()
		return azure.Read(ctx, azure.Scope{Scope: scope, Ruleset: document, Progress: cmd.ErrOrStderr()}, credential)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return preflight.Inventory{}, err
	}
	inv, err := preflight.Decode(data)
	if err != nil {
		return preflight.Inventory{}, fmt.Errorf("%s: %w", file, err)
	}
	if document != nil {
		planned := preflight.Ruleset{Document: string(document)}
		if r := inv.Ruleset; r != nil {
			planned.Deployed, planned.ServiceTags, planned.ServiceTagsTaken = r.Deployed, r.ServiceTags, r.ServiceTagsTaken
		}
		inv.Ruleset = &planned
	}
	return inv, nil
}

// skipFlag is ID=reason, any number of times.
type skipFlag []preflight.Skip

func (s *skipFlag) Set(text string) error {
	id, reason, ok := strings.Cut(text, "=")
	if reason = strings.TrimSpace(reason); !ok || reason == "" {
		return errors.New("write ID=reason")
	}
	*s = append(*s, preflight.Skip{ID: id, Reason: reason})
	return nil
}

func (s *skipFlag) String() string { return "" }

func (s *skipFlag) Type() string { return "ID=reason" }
