package arm

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Most of Azure's types are not made when their PUT is answered: the answer is 201 or 202 with a
// header Azure-AsyncOperation (or Location), the resource says of itself that it is being made,
// and whoever asked asks on at that address until the operation has ended, well or badly
// (learn.microsoft.com/azure/azure-resource-manager/management/async-operations).
//
// The twin has no clock. An operation takes as many questions as its kind says; each question
// about it, and each request that it refuses because of it, is one. One that nobody asks about
// stays under way, and holds what it holds.

// long is how a kind's operations go.
type long struct {
	// questions is how often an operation is asked about until it has ended.
	questions int
	// status is what a PUT that creates is answered with; 0: 201 Created.
	status int
	// making is the provisioning state meanwhile; empty: Creating, Updating.
	making string
}

// Operation is one that Azure has taken.
type Operation struct {
	// ID is where it is asked about.
	ID       string `json:"id"`
	Resource string `json:"resource"`
	Verb     string `json:"verb"` // create, update or delete
	// Holds are what nobody else may change meanwhile, as ids in lower case.
	Holds []string `json:"holds"`
	// Left is how many questions it still takes.
	Left   int    `json:"left"`
	Status string `json:"status"` // InProgress, Succeeded or Failed
	Error  *Error `json:"error,omitempty"`
}

const inProgress = "InProgress"

// What is done in an operation on Azure, by the resource providers' specifications
// (x-ms-long-running-operation), and roughly how they compare in time: a network is made in
// seconds, a search service in a minute or two, a database account in ten.
func schedule() {
	for questions, names := range map[int][]string{
		1: {typeVNet, typeSubnet, typePeering, typeNSG, typeRouteTable, typeNIC, typePublicIP, typeNAT, typeZone, typeZoneLink, typeZoneGroup,
			typeDNSPolicy, typeDNSRule, typeDNSLink, typeDomainList, typeStorage, typeVault, typeJob},
		2: {typeEndpoint, typeVM, typeEnvironment, typeProject, typeCosmosRole},
		3: {typeAccount, typeAccountHost, typeProjectHost, typeSearch},
		6: {typeCosmos},
	} {
		for _, name := range names {
			kinds[key(name)].long = &long{questions: questions}
		}
	}
	kinds[key(typeStorage)].long.status = 202
	kinds[key(typeCosmos)].long.status = 200
	kinds[key(typeAccount)].long.making = "Accepted"
	kinds[key(typeSearch)].long.making = "provisioning"

	// Azure changes one subnet of a network at a time, one private endpoint of a subnet, and one
	// part of a database account.
	for _, name := range []string{typeSubnet, typePeering, typeZoneGroup, typeCosmosRole, typeProject, typeProjectHost, typeAccountHost, typeConnection, typeProjectConn} {
		kinds[key(name)].holds = holdsParent
	}
	kinds[key(typeEndpoint)].holds = func(_ ID, body Object) []string { return []string{body.Text("properties", "subnet", "id")} }
}

// Answer is what a PUT or DELETE is answered with at once.
type Answer struct {
	Status int
	Body   Object
	// AsyncOperation is the header of that name; empty if the operation has ended.
	AsyncOperation string
}

// held is what an operation on a resource holds.
func (k *kind) held(id ID, body Object) []string {
	all := []string{id.Key()}
	if k.holds != nil {
		for _, h := range k.holds(id, body) {
			if h != "" {
				all = append(all, key(h))
			}
		}
	}
	return all
}

// holdsParent is for parts of which Azure changes one at a time.
func holdsParent(id ID, _ Object) []string { return []string{id.Parent()} }

// free says whether nothing under way holds what a request needs.
func (s *State) free(k *kind, id ID, body Object) error {
	mine := k.held(id, body)
	for _, other := range s.Operations {
		if other.Status != inProgress || !slices.ContainsFunc(other.Holds, func(h string) bool { return slices.Contains(mine, h) }) {
			continue
		}
		refused := conflict(k, id, other)
		s.step(other)
		return refused
	}
	return nil
}

// conflict is how a resource provider words that something is under way.
func conflict(k *kind, id ID, other *Operation) *Error {
	switch namespace, _, _ := strings.Cut(k.name, "/"); namespace {
	case "Microsoft.Network":
		return failure(409, "AnotherOperationInProgress", "Another operation on this or dependent resource is in progress. To retrieve status of the operation use uri: https://management.azure.com%s.", other.ID)
	case "Microsoft.DocumentDB":
		return failure(412, "PreconditionFailed", "There is already an operation in progress which requires exclusive lock on this service %s. Please retry the operation after sometime.", last(other.Resource))
	case "Microsoft.CognitiveServices":
		return failure(409, "RequestConflict", "Cannot modify resource with id '%s' because the resource entity provisioning state is not terminal. Please wait for the provisioning state to become terminal and then retry the request.", id)
	}
	return failure(409, "Conflict", "The resource '%s' has an operation under way: %s.", id, other.Verb)
}

// start takes an operation. What it does is done already, and not yet said.
func (s *State) start(k *kind, id ID, verb string, body Object, end *Error) *Operation {
	s.Made++
	namespace, _, _ := strings.Cut(k.name, "/")
	op := &Operation{
		ID:       fmt.Sprintf("/subscriptions/%s/providers/%s/locations/%s/operations/%s", s.Settings.Subscription, namespace, or(body.Text("location"), "global"), uuid("operation"+text(s.Made))),
		Resource: id.text, Verb: verb, Holds: k.held(id, body), Left: k.long.questions, Status: inProgress, Error: end,
	}
	if s.Operations == nil {
		s.Operations = map[string]*Operation{}
	}
	s.Operations[key(op.ID)] = op
	state := map[string]string{"create": or(k.long.making, "Creating"), "update": or(k.long.making, "Updating"), "delete": "Deleting"}[verb]
	if r := s.get(id.text); r != nil && k.provisions() {
		r.Body.Set(state, "properties", "provisioningState")
	}
	return op
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// step is one question about an operation.
func (s *State) step(op *Operation) {
	if op.Status != inProgress {
		return
	}
	if op.Left--; op.Left <= 0 {
		s.end(op)
	}
}

// end is when an operation turns out.
func (s *State) end(op *Operation) {
	id, err := ParseID(op.Resource)
	if err != nil {
		panic("arm: " + err.Error()) // it was parsed when it was taken
	}
	k := kinds[key(id.Type)]
	r := s.get(op.Resource)
	switch {
	case op.Error != nil:
	case op.Verb == "delete":
		err = s.remove(id)
	case r != nil && k.finish != nil:
		err = k.finish(s, r)
	}
	if err != nil && !errors.As(err, &op.Error) {
		op.Error = &Error{Status: 500, Code: "InternalServerError", Message: err.Error()}
	}
	op.Status = "Succeeded"
	if op.Error != nil {
		op.Status, op.Error.Accepted = "Failed", true
	}
	if r = s.get(op.Resource); r != nil && k.provisions() {
		state := op.Status
		if same(k.name, typeSearch) { // which has its own spelling
			state = strings.ToLower(state)
		}
		r.Body.Set(state, "properties", "provisioningState")
	}
}

// Ask asks after an operation, as a GET of Azure-AsyncOperation does.
func (c *Control) Ask(operation string) (Object, error) {
	var status Object
	err := c.change(func(s *State) error {
		op := s.Operations[key(operation)]
		if op == nil {
			return failure(404, "OperationNotFound", "The operation '%s' could not be found.", operation)
		}
		s.step(op)
		if op.Status != inProgress {
			delete(s.Operations, key(op.ID)) // nobody asks again
		}
		status = Object{"id": op.ID, "name": last(op.ID), "status": op.Status}
		if op.Status == "Failed" {
			status["error"] = map[string]any{"code": op.Error.Code, "message": op.Error.Message}
		}
		return nil
	})
	return status, err
}

// wait asks until an operation has ended, as Azure's clients do, and then reads what came of it.
func (c *Control) wait(id string, answer Answer, err error) (Object, error) {
	if err != nil || answer.AsyncOperation == "" {
		return answer.Body, err
	}
	for {
		status, err := c.Ask(answer.AsyncOperation)
		if err != nil {
			return nil, err
		}
		switch status.Text("status") {
		case "Failed":
			return nil, &Error{Status: 200, Code: status.Text("error", "code"), Message: status.Text("error", "message"), Accepted: true}
		case "Succeeded":
			if answer.Status == 202 && answer.Body == nil { // a deletion
				return nil, nil
			}
			return c.Get(id)
		}
	}
}
