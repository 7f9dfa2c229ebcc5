package arm

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

const delegation = "Microsoft.App/environments"

// environmentRules: learn.microsoft.com/azure/container-apps/custom-virtual-networks.
func environmentRules(o *operation) error {
	p := o.body.Object("properties")
	id := p.Text("vnetConfiguration", "infrastructureSubnetId")
	if o.old != nil && !same(o.old.Text("properties", "vnetConfiguration", "infrastructureSubnetId"), id) {
		return failure(400, "ManagedEnvironmentInvalidNetworkConfiguration", "The network configuration of managed environment %s cannot be changed.", o.id.Name())
	}
	if id == "" {
		if p.True("vnetConfiguration", "internal") {
			return failure(400, "ManagedEnvironmentInvalidNetworkConfiguration", "An internal environment needs an infrastructure subnet.")
		}
		return nil
	}
	subnet := o.s.get(id)
	if subnet == nil || !same(subnet.Type, typeSubnet) {
		return unknownReference(o.id, id)
	}
	if o.old != nil {
		return nil
	}
	if vnet := o.s.get(up(subnet.ID)); vnet.Body.Text("location") != o.body.Text("location") {
		return failure(400, "ManagedEnvironmentInvalidNetworkConfiguration", "The environment %s must be in the location of its virtual network, %s.", o.id.Name(), vnet.Body.Text("location"))
	}
	longest := 23 // consumption-only environments
	if len(p.List("workloadProfiles")) > 0 {
		longest = 27
		if d := delegations(subnet.Body); len(d) != 1 || !same(d[0], delegation) {
			return failure(400, "ManagedEnvironmentSubnetDelegationError", "The subnet of the environment must be delegated to the service '%s'. Please contact the customer support for more details.", delegation)
		}
	}
	return o.settle(subnet, longest)
}

// settle checks that a subnet is big enough and nobody's yet.
func (o *operation) settle(subnet *Resource, longest int) error {
	all, err := subnetPrefixes(subnet.Body)
	if err != nil {
		return err
	}
	if all[0].Bits() > longest {
		return failure(400, "ManagedEnvironmentInvalidNetworkConfiguration", "The subnet %s is too small: /%d, and the size must be at least /%d.", subnet.ID, all[0].Bits(), longest)
	}
	if users := residents(o.s, subnet.ID); len(users) > 0 {
		return failure(400, "ManagedEnvironmentSubnetInUse", "The subnet %s is already in use by %s. A subnet belongs to one environment alone.", subnet.ID, strings.Join(users, ", "))
	}
	vnet := o.s.get(up(subnet.ID))
	space, err := vnetPrefixes(vnet.Body)
	if err != nil {
		return err
	}
	if a, b, ok := overlapping(space, platformRanges); ok {
		return failure(400, "ManagedEnvironmentInvalidNetworkConfiguration", "The address space %s of %s overlaps with the reserved range %s.", a, vnet.ID, b)
	}
	return nil
}

// platformRanges may not be a network's: learn.microsoft.com/azure/container-apps/custom-virtual-networks.
var platformRanges = []netip.Prefix{
	netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("172.30.0.0/16"), netip.MustParsePrefix("172.31.0.0/16"), netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("100.100.0.0/17"), netip.MustParsePrefix("100.100.128.0/19"), netip.MustParsePrefix("100.100.160.0/19"), netip.MustParsePrefix("100.100.192.0/19"),
}

func environmentFill(o *operation, r *Resource) {
	seed := uuid(r.ID + text(r.Made))
	domain := "twin-" + seed[:8] + "." + o.body.Text("location") + ".azurecontainerapps.io"
	o.body.Set(domain, "properties", "defaultDomain")
	if o.body.True("properties", "vnetConfiguration", "internal") {
		if subnet := o.s.get(o.body.Text("properties", "vnetConfiguration", "infrastructureSubnetId")); subnet != nil {
			if all, err := subnetPrefixes(subnet.Body); err == nil {
				o.body.Set(lastOf(all[0]).Prev().String(), "properties", "staticIp")
			}
		}
	}
	o.body.Default(false, "properties", "zoneRedundant")
	identities(o, r)
}

func jobRules(o *operation) error {
	p := o.body.Object("properties")
	environment := o.s.get(p.Text("environmentId"))
	if environment == nil || !same(environment.Type, typeEnvironment) {
		return failure(400, "InvalidRequestParameterWithDetails", "environmentId '%s' of job %s is invalid. Reason: the environment does not exist.", p.Text("environmentId"), o.id.Name())
	}
	if environment.Body.Text("location") != o.body.Text("location") {
		return failure(400, "LocationMismatch", "Job %s must be in the location of its environment, %s.", o.id.Name(), environment.Body.Text("location"))
	}
	if name := p.Text("workloadProfileName"); name != "" && !slices.ContainsFunc(environment.Body.List("properties", "workloadProfiles"), func(w Object) bool { return w.Text("name") == name }) {
		return failure(400, "WorkloadProfileNotFound", "Workload profile %s does not exist in environment %s.", name, last(environment.ID))
	}
	c := p.Object("configuration")
	kind := c.Text("triggerType")
	config := map[string]string{"Manual": "manualTriggerConfig", "Schedule": "scheduleTriggerConfig", "Event": "eventTriggerConfig"}[kind]
	if config == "" || c.Object(config) == nil {
		return failure(400, "ContainerAppsJobInvalidTriggerConfig", "Job %s has the trigger type %q and not its configuration.", o.id.Name(), kind)
	}
	if kind == "Schedule" && len(strings.Fields(c.Text(config, "cronExpression"))) != 5 {
		return failure(400, "JobInvalidSchedule", "The cron expression %q of job %s is not valid.", c.Text(config, "cronExpression"), o.id.Name())
	}
	if c.Number("replicaTimeout") <= 0 {
		return failure(400, "InvalidRequestParameterWithDetails", "replicaTimeout of job %s must be greater than 0.", o.id.Name())
	}
	containers := p.List("template", "containers")
	if len(containers) == 0 {
		return failure(400, "InvalidRequestParameterWithDetails", "Job %s has no container.", o.id.Name())
	}
	for _, container := range containers {
		if container.Text("image") == "" || container.Text("name") == "" {
			return failure(400, "InvalidRequestParameterWithDetails", "A container of job %s has no name or image.", o.id.Name())
		}
		if err := o.pull(container); err != nil {
			return err
		}
		// On the consumption profile CPU and memory go in fixed pairs.
		if cpu, memory := container.Number("resources", "cpu"), container.Text("resources", "memory"); memory != text(2*cpu)+"Gi" {
			return failure(400, "ContainerAppInvalidResourceTotal", "The total requested CPU and memory resources for this application (CPU: %v, memory: %s) is invalid. Total CPU and memory for all containers defined in a Container App must add up to one of the following CPU - Memory combinations: [cpu: 0.25, memory: 0.5Gi]; [cpu: 0.5, memory: 1.0Gi] and so on.", cpu, memory)
		}
	}
	return nil
}

// pull looks for an image as Azure does before it takes a job: a registry of the subscription wants an identity of the job that may
// pull from it. What is in any other registry, and whether the image is there, the twin cannot know.
func (o *operation) pull(container Object) error {
	server, _, _ := strings.Cut(container.Text("image"), "/")
	for _, registry := range o.s.ofType(typeRegistry) {
		if !same(registry.Body.Text("properties", "loginServer"), server) || registry.Body.True("properties", "anonymousPullEnabled") {
			continue
		}
		refused := failure(400, "InvalidParameterValueInContainerTemplate", "The following field(s) are either invalid or missing. Field 'template.containers.%s.image' is invalid with details: 'Invalid value: \"%s\": GET https:: UNAUTHORIZED: authentication required';.",
			container.Text("name"), container.Text("image"))
		for _, given := range o.body.List("properties", "configuration", "registries") {
			identity := given.Text("identity")
			if !same(given.Text("server"), server) || identity == "" {
				continue
			}
			if user := o.s.get(identity); user == nil || o.body.Object("identity", "userAssignedIdentities", identity) == nil {
				return failure(400, "ContainerAppRegistryIdentityNotFound", "The identity %s of registry %s is not one of job %s.", identity, server, o.id.Name())
			} else if o.s.authorized(user.Body.Text("properties", "principalId"), pullAction, registry.ID) == nil {
				return nil
			}
		}
		return refused
	}
	return nil
}

func registryName(name string) error {
	if len(name) < 5 || len(name) > 50 || strings.Trim(key(name), "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return failure(400, "InvalidResourceName", "The registry name %s must have 5 to 50 letters and digits.", name)
	}
	return nil
}

func registryFill(o *operation, _ *Resource) {
	o.body.Set(key(o.id.Name())+".azurecr.io", "properties", "loginServer")
}

func jobFill(o *operation, r *Resource) { identities(o, r) }

// executionRules: one is made by starting its job.
func executionRules(o *operation) error {
	return failure(405, "MethodNotAllowed", "The HTTP method 'PUT' is not supported at scope '%s'.", o.id)
}

// Start starts a job, and returns the id of its execution
// (learn.microsoft.com/rest/api/resource-manager/containerapps/jobs/start).
//
// Without [Control.Run] no container runs: the execution has ended at once, and has Succeeded unless a [Fault] of the
// operation start, in the mode Accepted, has it have Failed. So that proves what whoever started it makes of either, and
// nothing about what a container would have found out.
func (c *Control) Start(job string) (execution string, err error) {
	id, err := ParseID(job)
	if err != nil {
		return "", err
	}
	var failed error
	var runs Object
	err = c.change(func(s *State) error {
		r := s.get(job)
		if r == nil || !same(r.Type, typeJob) {
			return missing(s, id)
		}
		mode := s.fault(id, "start")
		switch mode {
		case Before:
			failed = errInternal
		case Throttle:
			failed = errThrottled
		}
		s.log("start", id, failed)
		if failed != nil {
			return nil // the fault is used up
		}
		status := "Succeeded"
		switch mode {
		case Accepted:
			status = "Failed"
		case Lost:
			failed = ErrLost
		}
		s.Made++
		name := last(r.ID) + "-" + uuid(r.ID + text(s.Made))[:7]
		execution = r.ID + "/executions/" + name
		now := time.Now().UTC().Format(time.RFC3339)
		properties := map[string]any{"status": status, "startTime": now, "endTime": now}
		if c.Run != nil && mode != Accepted {
			runs, properties = r.Body.Clone(), map[string]any{"status": "Running", "startTime": now}
		}
		s.Resources[key(execution)] = &Resource{ID: execution, Type: typeExecution, Made: s.Made, Body: Object{
			"id": execution, "name": name, "type": typeExecution,
			"properties": properties,
		}}
		return nil
	})
	if err == nil && runs != nil {
		go c.Run(execution, runs)
	}
	if err == nil {
		err = failed
	}
	return execution, err
}

// End says how an execution that [Control.Run] was given has ended.
func (c *Control) End(execution, status string, began, ended time.Time) error {
	return c.change(func(s *State) error {
		r := s.get(execution)
		if r == nil { // with its job
			return nil
		}
		r.Body["properties"] = map[string]any{"status": status,
			"startTime": began.UTC().Format(time.RFC3339), "endTime": ended.UTC().Format(time.RFC3339)}
		return nil
	})
}
