package preflight

// Plan is the spoke that a program's arguments describe. What is empty is not planned.
// Addresses and prefixes are text, as the arguments are: what cannot be read is a finding
// (NET-00), not a crash.
type Plan struct {
	// Location is the region of the virtual network and the gateway.
	Location string `json:"location"`
	// AccountLocation is the Foundry account's region; empty: the same.
	AccountLocation string `json:"accountLocation,omitempty"`
	VNetName        string `json:"vnetName,omitempty"`
	// VNetPrefixes are the virtual network's own address space.
	VNetPrefixes []string `json:"vnetPrefixes,omitempty"`
	// AdjacentPrefixes are those of peered or transit-attached networks.
	AdjacentPrefixes []string `json:"adjacentPrefixes,omitempty"`
	// LocalPrefixes are reached without the gateway, such as the private endpoints' subnet.
	LocalPrefixes []string `json:"localPrefixes,omitempty"`
	AgentPrefix   string   `json:"agentPrefix,omitempty"`
	GatewayPrefix string   `json:"gatewayPrefix,omitempty"`
	// EndpointPrefix is the private endpoints' subnet.
	EndpointPrefix string `json:"endpointPrefix,omitempty"`
	CanaryPrefix   string `json:"canaryPrefix,omitempty"`
	// CanaryImageHost is the registry that the canary's image is pulled from; empty: not known.
	CanaryImageHost string `json:"canaryImageHost,omitempty"`
	// GatewayAddress is the next hop of every route: the gateway's own address or its
	// load balancer's.
	GatewayAddress string `json:"gatewayAddress,omitempty"`
	// Delegation is the agent subnet's service name; empty: the right one.
	Delegation string `json:"delegation,omitempty"`
	// Sessions is how many agent sessions are expected at one time; 0: unknown.
	Sessions int `json:"sessions,omitempty"`
	// AllowSharedAddressSpace permits 100.64.0.0/10 where Microsoft's pages contradict
	// each other.
	AllowSharedAddressSpace bool `json:"allowSharedAddressSpace,omitempty"`
	// DNSClosure is how 168.63.129.16 is closed to agents: nsg, policy or both.
	DNSClosure string `json:"dnsClosure,omitempty"`
	// PinScope is source, shared or verify; empty is source.
	PinScope string `json:"pinScope,omitempty"`
	VMSize   string `json:"vmSize,omitempty"`
	// GatewayVersion is the version of the bundle that will run.
	GatewayVersion string `json:"gatewayVersion,omitempty"`
	// VaultName and AccountName are names that have to be free, or ours.
	VaultName   string `json:"vaultName,omitempty"`
	AccountName string `json:"accountName,omitempty"`
	// StandardSetup says that the project brings its own Cosmos DB, Storage and Search.
	StandardSetup bool `json:"standardSetup,omitempty"`
	// GrantsDeployer says that the deployer is given its data-plane roles by the program.
	GrantsDeployer bool `json:"grantsDeployer,omitempty"`
	// DefinesRole says that the program makes a role in the subscription, by which the gateway reads service tags.
	DefinesRole bool `json:"definesRole,omitempty"`
	// Ruleset is the document that will be published.
	Ruleset *Ruleset `json:"-"`
}
