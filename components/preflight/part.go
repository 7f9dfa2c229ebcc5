package preflight

import (
	"fmt"
	"reflect"
	"strings"
)

// Part names a part of an inventory, as its JSON key does.
type Part string

// The parts that guards ask for.
const (
	PartRuleset          Part = "ruleset"
	PartVNets            Part = "vnets"
	PartRouteTables      Part = "routeTables"
	PartNSGs             Part = "nsgs"
	PartNICs             Part = "nics"
	PartEffectiveRoutes  Part = "effectiveRoutes"
	PartLoadBalancers    Part = "loadBalancers"
	PartVMs              Part = "vms"
	PartPrivateEndpoints Part = "privateEndpoints"
	PartPrivateZones     Part = "privateZones"
	PartDNSPolicies      Part = "dnsPolicies"
	PartDNSForwarding    Part = "dnsForwarding"
	PartVaults           Part = "vaults"
	PartDeletedVaults    Part = "deletedVaults"
	PartStorage          Part = "storageAccounts"
	PartRoleAssignments  Part = "roleAssignments"
	PartDeployer         Part = "deployer"
	PartProviders        Part = "providers"
	PartRegistries       Part = "registries"
	PartAccounts         Part = "accounts"
	PartDeletedAccounts  Part = "deletedAccounts"
	PartAgents           Part = "agents"
	PartGatewayReports   Part = "gatewayReports"
	PartEnvironments     Part = "managedEnvironments"
	PartCanaries         Part = "canaries"
)

// fields are where the parts are in an Inventory.
var fields = func() map[Part]int {
	out := map[Part]int{}
	for i := range reflect.TypeFor[Inventory]().NumField() {
		name, _, _ := strings.Cut(reflect.TypeFor[Inventory]().Field(i).Tag.Get("json"), ",")
		out[Part(name)] = i
	}
	return out
}()

// has reports whether a part was read.
func (inv *Inventory) has(p Part) bool { return !reflect.ValueOf(inv).Elem().Field(fields[p]).IsNil() }

// whyNot says why a part is missing.
func (inv *Inventory) whyNot(p Part) string {
	if why := inv.NotRead[p]; why != "" {
		return fmt.Sprintf("%s: %s", p, why)
	}
	return fmt.Sprintf("%s: not in the inventory", p)
}
