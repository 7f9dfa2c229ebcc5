package preflight

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"path"
	"slices"
	"strings"
	"unicode"
)

const nothingPlanned = "nothing is planned"

// Delegation is the service that the agent subnet is delegated to, byte for byte.
const Delegation = "Microsoft.App/environments"

// view is an inventory as a guard looks at it, and where the guard writes what it finds.
type view struct {
	inv    *Inventory
	static bool
	vnet   *VNet   // the spoke's, nil: not made
	agent  *Subnet // the agents', nil: not made
	plan   Plan    // empty where nothing is planned
	rules  rules

	guard    *Guard
	findings []Finding
	unknown  string // what is missing
	moot     string // why the question does not arise
}

func newView(inv *Inventory, static bool) *view {
	v := &view{inv: inv, static: static}
	if inv.Plan != nil {
		v.plan = *inv.Plan
	}
	for i := range inv.VNets {
		n := &inv.VNets[i]
		if strings.EqualFold(path.Base(n.ID), inv.Scope.VNet) && (inv.Scope.ResourceGroup == "" || strings.EqualFold(resourceGroup(n.ID), inv.Scope.ResourceGroup)) {
			v.vnet = n
		}
	}
	if v.vnet != nil {
		for i := range v.vnet.Subnets {
			if strings.EqualFold(path.Base(v.vnet.Subnets[i].ID), inv.Scope.AgentSubnet) {
				v.agent = &v.vnet.Subnets[i]
			}
		}
	}
	v.readRules()
	return v
}

// found records a finding. An empty fix is the guard's own.
func (v *view) found(resource, found, wanted string) {
	v.findings = append(v.findings, Finding{Resource: printable(resource), Found: printable(found), Wanted: printable(wanted), Fix: v.guard.Fix})
}

// printable is text from Azure, or from a gateway, as it may come to a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

// missing says that the guard cannot be judged.
func (v *view) missing(what string) {
	if v.unknown != "" {
		what = v.unknown + "; " + what
	}
	v.unknown = what
}

// notApplicable says that the question does not arise.
func (v *view) notApplicable(format string, args ...any) { v.moot = fmt.Sprintf(format, args...) }

// named is a prefix with the resource that has it.
type named struct {
	resource string
	prefix   netip.Prefix
}

// planned reads prefixes of the plan; what cannot be read is left out, and NET-00's.
func planned(what string, texts ...string) []named {
	var out []named
	for _, s := range texts {
		if p, err := netip.ParsePrefix(s); err == nil {
			out = append(out, named{"planned " + what, p.Masked()})
		}
	}
	return out
}

// with adds those of more whose prefix is not there yet, so that what is both planned and
// made is judged once, under the name that it has in Azure.
func with(have []named, more ...named) []named {
	for _, m := range more {
		if !slices.ContainsFunc(have, func(h named) bool { return h.prefix == m.prefix }) {
			have = append(have, m)
		}
	}
	return have
}

// agentPrefixes are the agent subnet's, made and planned.
func (v *view) agentPrefixes() []named {
	var out []named
	if v.agent != nil {
		for _, p := range v.agent.Prefixes {
			out = append(out, named{v.agent.ID, p})
		}
	}
	return with(out, planned("agent subnet", v.plan.AgentPrefix)...)
}

// vnetPrefixes are the virtual network's, made and planned.
func (v *view) vnetPrefixes() []named {
	var out []named
	if v.vnet != nil {
		for _, p := range v.vnet.Prefixes {
			out = append(out, named{v.vnet.ID, p})
		}
	}
	return with(out, planned("virtual network", v.plan.VNetPrefixes...)...)
}

// adjacentPrefixes are those of peered networks, made and planned.
func (v *view) adjacentPrefixes() []named {
	var out []named
	if v.vnet != nil {
		for _, p := range v.vnet.Peerings {
			for _, prefix := range p.Prefixes {
				out = append(out, named{p.ID, prefix})
			}
		}
	}
	return with(out, planned("adjacent network", v.plan.AdjacentPrefixes...)...)
}

// same compares ARM ids, which are not case-sensitive.
func same(a, b string) bool { return a != "" && strings.EqualFold(a, b) }

// resourceGroup is the part of an ARM id.
func resourceGroup(id string) string {
	parts := strings.Split(id, "/")
	for i := 0; i+1 < len(parts); i++ {
		if strings.EqualFold(parts[i], "resourceGroups") {
			return parts[i+1]
		}
	}
	return ""
}

// region brings "East US 2" and "eastus2" together, as ARM does.
func region(s string) string { return strings.ToLower(strings.ReplaceAll(s, " ", "")) }

func decodeStrict(data []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one document")
	}
	return nil
}
