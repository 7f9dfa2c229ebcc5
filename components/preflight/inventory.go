package preflight

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"time"
)

// InventoryVersion is the version of the saved form that this package reads.
const InventoryVersion = 1

// Inventory is what is known of a spoke and of what surrounds it. It is plain data: it can
// be saved, sent to somebody else, and judged again.
//
// A part that is null was not read, and NotRead says why; an empty list was read, and there
// is none. Ids are ARM ids; they compare without regard to case.
type Inventory struct {
	Version int       `json:"version"`
	Taken   time.Time `json:"taken"`
	Scope   Scope     `json:"scope"`
	// NotRead says why a part is null.
	NotRead map[Part]string `json:"notRead,omitempty"`
	// Partial names single things within a part that could not be read.
	Partial []string `json:"partial,omitempty"`

	Plan             *Plan                `json:"plan"`
	Ruleset          *Ruleset             `json:"ruleset"`
	VNets            []VNet               `json:"vnets"`
	RouteTables      []RouteTable         `json:"routeTables"`
	NSGs             []NSG                `json:"nsgs"`
	NICs             []NIC                `json:"nics"`
	EffectiveRoutes  []EffectiveRoutes    `json:"effectiveRoutes"`
	LoadBalancers    []LoadBalancer       `json:"loadBalancers"`
	VMs              []VM                 `json:"vms"`
	PrivateEndpoints []PrivateEndpoint    `json:"privateEndpoints"`
	PrivateZones     []PrivateZone        `json:"privateZones"`
	DNSPolicies      []DNSPolicy          `json:"dnsPolicies"`
	DNSForwarding    []DNSForwarding      `json:"dnsForwarding"`
	Vaults           []Vault              `json:"vaults"`
	DeletedVaults    []DeletedResource    `json:"deletedVaults"`
	StorageAccounts  []StorageAccount     `json:"storageAccounts"`
	RoleAssignments  []RoleAssignment     `json:"roleAssignments"`
	Deployer         *Deployer            `json:"deployer"`
	Providers        []ResourceProvider   `json:"providers"`
	Registries       []Registry           `json:"registries"`
	Accounts         []Account            `json:"accounts"`
	DeletedAccounts  []DeletedResource    `json:"deletedAccounts"`
	Agents           []Agent              `json:"agents"`
	GatewayReports   []GatewayReport      `json:"gatewayReports"`
	Environments     []ManagedEnvironment `json:"managedEnvironments"`
	Canaries         []Canary             `json:"canaries"`
}

// Decode reads a saved inventory. An unknown key is an error: what a guard would not see
// must not look as if it had been judged.
func Decode(data []byte) (Inventory, error) {
	var inv Inventory
	if err := decodeStrict(data, &inv); err != nil {
		return Inventory{}, fmt.Errorf("inventory: %w", err)
	}
	if inv.Version != InventoryVersion {
		return Inventory{}, fmt.Errorf("inventory: version %d, but only version %d is known", inv.Version, InventoryVersion)
	}
	return inv, nil
}

// Encode writes the form that Decode reads.
func (inv Inventory) Encode() ([]byte, error) {
	inv.Version = InventoryVersion
	return json.MarshalIndent(inv, "", "  ")
}

// Scope says which spoke of a subscription is meant. Names are empty where they are not
// known yet.
type Scope struct {
	Subscription  string `json:"subscription"`
	ResourceGroup string `json:"resourceGroup"`
	VNet          string `json:"vnet"`
	AgentSubnet   string `json:"agentSubnet"`
	// Account is the Foundry account's name.
	Account string `json:"account,omitempty"`
	// Project is the Foundry project's name.
	Project string `json:"project,omitempty"`
}

// VNet is a virtual network.
type VNet struct {
	ID       string         `json:"id"`
	Location string         `json:"location"`
	Prefixes []netip.Prefix `json:"prefixes"`
	// DNSServers is empty for Azure's own resolver.
	DNSServers []netip.Addr `json:"dnsServers"`
	Subnets    []Subnet     `json:"subnets"`
	Peerings   []Peering    `json:"peerings"`
	// PrivateEndpointPolicies is the network's privateEndpointVNetPolicies.
	PrivateEndpointPolicies string `json:"privateEndpointPolicies,omitempty"`
}

// Subnet is a part of a virtual network.
type Subnet struct {
	ID       string         `json:"id"`
	Prefixes []netip.Prefix `json:"prefixes"`
	// Delegations are service names, byte for byte.
	Delegations      []string `json:"delegations"`
	ServiceEndpoints []string `json:"serviceEndpoints"`
	RouteTable       string   `json:"routeTable,omitempty"`
	NSG              string   `json:"nsg,omitempty"`
	NATGateway       string   `json:"natGateway,omitempty"`
	// DefaultOutbound is nil where Azure did not say.
	DefaultOutbound *bool `json:"defaultOutbound,omitempty"`
	// PrivateEndpointPolicies is Disabled, NetworkSecurityGroupEnabled, RouteTableEnabled or Enabled.
	PrivateEndpointPolicies string `json:"privateEndpointPolicies,omitempty"`
	// Associations are services that hold the subnet: service association links.
	Associations []Association `json:"associations"`
}

// Association is a service association link: a managed service lives in the subnet.
type Association struct {
	Name string `json:"name"`
	Type string `json:"type"`
	Link string `json:"link,omitempty"`
}

// Peering joins a virtual network to another one.
type Peering struct {
	ID       string         `json:"id"`
	Remote   string         `json:"remote"`
	State    string         `json:"state"`
	Prefixes []netip.Prefix `json:"prefixes"` // the other side's
	// UsesRemoteGateway: what the other side's gateway learns is propagated here.
	UsesRemoteGateway bool `json:"usesRemoteGateway,omitempty"`
}

// NextHop is where a route leads, as ARM writes it.
type NextHop string

const (
	HopInternet  NextHop = "Internet"
	HopNone      NextHop = "None"
	HopGateway   NextHop = "VirtualNetworkGateway"
	HopAppliance NextHop = "VirtualAppliance"
	HopLocal     NextHop = "VnetLocal"
)

// RouteTable is a set of user-defined routes.
type RouteTable struct {
	ID               string  `json:"id"`
	PropagateDisable bool    `json:"disableBgpRoutePropagation"`
	Routes           []Route `json:"routes"`
}

// Route is one user-defined route. Prefix is a prefix or a service tag.
type Route struct {
	Name    string  `json:"name"`
	Prefix  string  `json:"prefix"`
	Hop     NextHop `json:"hop"`
	Address string  `json:"address,omitempty"`
}

// EffectiveRoutes are the routes that Azure says it applies at one interface. Azure tells
// them only for a running VM's interface, so never for an agent's own.
type EffectiveRoutes struct {
	NIC    string           `json:"nic"`
	Routes []EffectiveRoute `json:"routes"`
}

// EffectiveRoute is one row of them.
type EffectiveRoute struct {
	Source   string   `json:"source"` // Default, User, VirtualNetworkGateway
	State    string   `json:"state"`  // Active, Invalid
	Prefixes []string `json:"prefixes"`
	Hop      string   `json:"hop"` // as Azure reports it, such as VNetPeering
	Address  []string `json:"address,omitempty"`
}

// NSG is a network security group.
type NSG struct {
	ID    string    `json:"id"`
	Rules []NSGRule `json:"rules"`
}

// NSGRule is one of its rules, without Azure's defaults.
type NSGRule struct {
	Name         string   `json:"name"`
	Priority     int      `json:"priority"`
	Direction    string   `json:"direction"` // Inbound or Outbound
	Access       string   `json:"access"`    // Allow or Deny
	Protocol     string   `json:"protocol"`
	Sources      []string `json:"sources"`
	Destinations []string `json:"destinations"`
	Ports        []string `json:"ports"`
}

// NIC is a network interface.
type NIC struct {
	ID            string `json:"id"`
	Location      string `json:"location"`
	VM            string `json:"vm,omitempty"`
	Subnet        string `json:"subnet"`
	NSG           string `json:"nsg,omitempty"`
	Forwarding    bool   `json:"ipForwarding"`
	Accelerated   bool   `json:"acceleratedNetworking"`
	Address       string `json:"address"`
	Allocation    string `json:"allocation"` // Static or Dynamic
	PublicAddress string `json:"publicAddress,omitempty"`
	// PrivateEndpoint owns it, if any.
	PrivateEndpoint string `json:"privateEndpoint,omitempty"`
}

// LoadBalancer is an internal load balancer in front of several gateways.
type LoadBalancer struct {
	ID        string   `json:"id"`
	SKU       string   `json:"sku"`
	Frontends []string `json:"frontends"` // private addresses
	HAPorts   bool     `json:"haPorts"`
	Backends  []string `json:"backends"` // interfaces
}

// VM is a virtual machine.
type VM struct {
	ID         string   `json:"id"`
	Location   string   `json:"location"`
	Size       string   `json:"size"`
	Identities []string `json:"identities"` // principal ids
}

// PrivateEndpoint is a private address of a service.
type PrivateEndpoint struct {
	ID     string `json:"id"`
	Subnet string `json:"subnet"`
	Target string `json:"target"`
	Group  string `json:"group"`
	State  string `json:"state"` // Approved, Pending, Rejected
	// Addresses are its private ones.
	Addresses []netip.Addr `json:"addresses"`
}

// Name is a host name with the addresses that it is given for.
type Name struct {
	Name      string       `json:"name"`
	Addresses []netip.Addr `json:"addresses"`
}

// PrivateZone is a private DNS zone with the networks that it is linked to.
type PrivateZone struct {
	ID    string   `json:"id"`
	Name  string   `json:"name"`
	Links []string `json:"links"` // virtual networks
	// Records are its A records, by full name.
	Records []Name `json:"records"`
}

// DNSPolicy is an Azure DNS security policy.
type DNSPolicy struct {
	ID    string          `json:"id"`
	Links []string        `json:"links"` // virtual networks
	Rules []DNSPolicyRule `json:"rules"`
}

// DNSPolicyRule is one of its rules.
type DNSPolicyRule struct {
	Priority int      `json:"priority"`
	Action   string   `json:"action"` // Allow, Alert or Block
	Enabled  bool     `json:"enabled"`
	Domains  []string `json:"domains"`
}

// DNSForwarding is a DNS forwarding ruleset of Azure's private resolver.
type DNSForwarding struct {
	ID    string              `json:"id"`
	Links []string            `json:"links"`
	Rules []DNSForwardingRule `json:"rules"`
}

// DNSForwardingRule sends a domain to servers.
type DNSForwardingRule struct {
	Domain  string       `json:"domain"`
	Enabled bool         `json:"enabled"`
	Targets []netip.Addr `json:"targets"`
}

// Vault is a Key Vault with the keys that could be read.
type Vault struct {
	ID              string `json:"id"`
	RBAC            bool   `json:"rbac"`
	SoftDelete      bool   `json:"softDelete"`
	PurgeProtection bool   `json:"purgeProtection"`
	Keys            []Key  `json:"keys"`
}

// Key is a key in a vault.
type Key struct {
	ID         string   `json:"id"`
	Type       string   `json:"type"` // EC, EC-HSM, RSA, RSA-HSM
	Curve      string   `json:"curve,omitempty"`
	Size       int      `json:"size,omitempty"`
	Operations []string `json:"operations"`
	Exportable bool     `json:"exportable"`
}

// DeletedResource is what a soft delete left: it holds the name until it is purged.
type DeletedResource struct {
	Name     string `json:"name"`
	Location string `json:"location"`
}

// StorageAccount is a storage account.
type StorageAccount struct {
	ID              string   `json:"id"`
	SharedKey       bool     `json:"sharedKeyAccess"`
	PublicAccess    bool     `json:"publicNetworkAccess"`
	DefaultAction   string   `json:"defaultAction"` // Allow or Deny
	Subnets         []string `json:"subnets"`
	AnonymousAccess bool     `json:"anonymousBlobAccess"`
	// Endpoint is its blobs' URL.
	Endpoint string `json:"blobEndpoint,omitempty"`
}

// RoleAssignment gives a principal a role.
type RoleAssignment struct {
	ID        string `json:"id"`
	Principal string `json:"principal"`
	Role      string `json:"role"` // the definition's GUID
	Scope     string `json:"scope"`
}

// Deployer is the identity that the inventory was read with.
type Deployer struct {
	// Permissions are in force at the resource group.
	Permissions []Permission `json:"permissions"`
}

// Permission is a set of actions, as role definitions have them.
type Permission struct {
	Actions        []string `json:"actions"`
	NotActions     []string `json:"notActions,omitempty"`
	DataActions    []string `json:"dataActions,omitempty"`
	NotDataActions []string `json:"notDataActions,omitempty"`
}

// ResourceProvider is a namespace of resource types.
type ResourceProvider struct {
	Namespace string `json:"namespace"`
	State     string `json:"state"` // Registered
}

// Registry is a container registry that agents' images come from.
type Registry struct {
	ID                     string `json:"id"`
	SKU                    string `json:"sku"`
	LoginServer            string `json:"loginServer"`
	DedicatedDataEndpoints bool   `json:"dedicatedDataEndpoints"`
}

// ManagedEnvironment is a Container Apps environment: it holds a delegated subnet.
type ManagedEnvironment struct {
	ID     string `json:"id"`
	Subnet string `json:"subnet,omitempty"`
}

// Account is a Foundry account.
type Account struct {
	ID              string           `json:"id"`
	Location        string           `json:"location"`
	State           string           `json:"state"`
	PublicAccess    bool             `json:"publicNetworkAccess"`
	Injections      []Injection      `json:"networkInjections"`
	ManagedNetwork  string           `json:"managedNetwork,omitempty"` // isolation mode of a managed virtual network
	CapabilityHosts []CapabilityHost `json:"capabilityHosts"`
	Projects        []Project        `json:"projects"`
}

// Injection puts an account's agents into a subnet.
type Injection struct {
	Scenario       string `json:"scenario"`
	Subnet         string `json:"subnet"`
	ManagedNetwork bool   `json:"useMicrosoftManagedNetwork"`
}

// Project is a Foundry project.
type Project struct {
	ID              string           `json:"id"`
	State           string           `json:"state"`
	Connections     []Connection     `json:"connections"`
	CapabilityHosts []CapabilityHost `json:"capabilityHosts"`
	// Endpoint is the project's own API, which lists its agents.
	Endpoint string `json:"endpoint,omitempty"`
}

// Connection is a project's use of another resource.
type Connection struct {
	Name     string `json:"name"`
	Category string `json:"category"` // CosmosDb, AzureStorageAccount, CognitiveSearch
	Target   string `json:"target"`   // the resource's ARM id, where it has one
}

// CapabilityHost makes an account or a project able to run agents.
type CapabilityHost struct {
	ID           string   `json:"id"`
	Kind         string   `json:"kind"`
	State        string   `json:"state"`
	Subnet       string   `json:"subnet,omitempty"`
	VectorStores []string `json:"vectorStores,omitempty"`
	Storage      []string `json:"storage,omitempty"`
	Threads      []string `json:"threads,omitempty"`
}

// Agent is an agent with the kinds of its tools, such as code_interpreter.
type Agent struct {
	Name    string   `json:"name"`
	Project string   `json:"project"`
	Tools   []string `json:"tools"`
}

// GatewayReport is what a gateway wrote about itself.
type GatewayReport struct {
	Gateway string    `json:"gateway"` // where the report was read
	Digest  string    `json:"digest"`
	Serial  int64     `json:"serial"`
	Ready   bool      `json:"ready"`
	Version string    `json:"version"`
	Time    time.Time `json:"time"`
	Error   string    `json:"error,omitempty"`
	// Written is when, by the storage account's clock.
	Written time.Time `json:"written"`
	// Intermediate is the certificate that it signs leaves with, in PEM, where it tells.
	Intermediate string `json:"intermediate,omitempty"`
	// Root is the one that it was signed with.
	Root string `json:"root,omitempty"`
}

// Canary is the last run of a job that behaves like an agent.
type Canary struct {
	Name  string    `json:"name"`
	State string    `json:"state"` // Succeeded, Failed, Running
	Ended time.Time `json:"ended,omitzero"`
}

// Ruleset is the document that is to be in force, and the one that is.
type Ruleset struct {
	// Document is the planned one, JSON or YAML.
	Document string `json:"document"`
	// Deployed is the published one; empty: none is.
	Deployed string `json:"deployed,omitempty"`
	// ServiceTags is the data behind the tags that the document uses, by tag.
	ServiceTags map[string][]netip.Prefix `json:"serviceTags,omitempty"`
	// ServiceTagsTaken is when that data was fetched.
	ServiceTagsTaken time.Time `json:"serviceTagsTaken,omitzero"`
}
