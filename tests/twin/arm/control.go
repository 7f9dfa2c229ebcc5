package arm

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// operation is one PUT or DELETE under way.
type operation struct {
	s    *State
	kind *kind
	id   ID
	// body is what is to be there, old what was; nil if it was not.
	body, old Object
	// unseen is how long a delay hides what is made.
	unseen int
	// accepted is set by a rule if Azure takes the request and fails only later.
	accepted *Error
}

// Get reads a resource.
func (c *Control) Get(id string) (Object, error) {
	parsed, err := ParseID(id)
	if err != nil {
		return nil, err
	}
	var body Object
	lingers := false
	err = c.look(func(s *State) error {
		if _, err := kindOf(parsed); err != nil {
			return err
		}
		r := s.get(id)
		if r == nil {
			return missing(s, parsed)
		}
		body = s.view(r)
		lingers = s.Lingering[parsed.Key()] > 0
		return nil
	})
	if lingers { // a while passes
		err = errors.Join(err, c.change(func(s *State) error { s.unlink(id); return nil }))
	}
	return body, err
}

// missing says what of an id is not there.
func missing(s *State, id ID) error {
	if g := id.groupID(); g != "" && s.get(g) == nil {
		return failure(404, "ResourceGroupNotFound", "Resource group '%s' could not be found.", id.Group())
	}
	return notFound(id)
}

// List reads the resources of a type whose ids are below one; empty: all.
func (c *Control) List(kind, below string) ([]Object, error) {
	var all []Object
	err := c.look(func(s *State) error {
		for _, r := range s.ofType(kind) {
			if below == "" || strings.HasPrefix(key(r.ID), key(below)+"/") {
				all = append(all, s.view(r))
			}
		}
		return nil
	})
	return all, err
}

// Put makes a resource or replaces what it is, and waits until it is.
func (c *Control) Put(id string, body Object) (Object, error) {
	answer, err := c.Begin(id, body)
	return c.wait(id, answer, err)
}

// Begin sends a PUT, and returns what is answered at once.
func (c *Control) Begin(id string, body Object) (Answer, error) {
	return c.upsert(id, func(Object) (Object, error) { return normal(body) })
}

// Patch changes a part of a resource.
func (c *Control) Patch(id string, patch Object) (Object, error) {
	answer, err := c.upsert(id, func(old Object) (Object, error) {
		if old == nil {
			return nil, nil
		}
		patch, err := normal(patch)
		if err != nil {
			return nil, err
		}
		merge(old, patch)
		return old, nil
	})
	return c.wait(id, answer, err)
}

func (c *Control) upsert(id string, next func(old Object) (Object, error)) (answer Answer, err error) {
	parsed, err := ParseID(id)
	if err != nil {
		return Answer{}, err
	}
	var failed error
	err = c.change(func(s *State) error {
		operation := "create"
		var old Object
		if r := s.get(id); r != nil {
			operation, old = "update", s.view(r)
		}
		mode := s.fault(parsed, operation)
		switch mode {
		case Before:
			failed = errInternal
		case Throttle:
			failed = errThrottled
		}
		s.log(operation, parsed, failed)
		if failed != nil {
			return nil // the fault is used up
		}
		body, err := next(old)
		if err == nil && body == nil {
			err = missing(s, parsed)
		}
		k := kinds[key(parsed.Type)]
		if err == nil && k != nil {
			if busy := s.free(k, parsed, body); busy != nil {
				failed = busy
				return nil // an operation that it counted for may have ended
			}
		}
		if err == nil {
			err = s.put(parsed, body)
		}
		var refused *Error
		if err != nil && !(errors.As(err, &refused) && refused.Accepted) {
			return err
		}
		failed = err
		switch mode {
		case Lost:
			failed = ErrLost
		case Died:
			failed = errDied
		case Accepted:
			failed = &Error{Status: 200, Code: "InternalExecutionError", Message: "An internal execution error occurred. Please retry later.", Accepted: true}
		}
		r := s.get(id)
		takenOnly := errors.As(failed, &refused) && refused.Accepted
		answer.Status = 200
		if operation == "create" {
			answer.Status = 201
		}
		if k.long != nil {
			// Nobody asks after an operation whose reply was lost: it ends by itself.
			end := refused
			if !takenOnly {
				end = nil
			}
			op := s.start(k, parsed, operation, r.Body, end)
			switch {
			case mode == Lost || mode == Died:
				s.end(op)
				delete(s.Operations, key(op.ID))
			default:
				failed, answer.AsyncOperation = nil, op.ID
				if operation == "create" && k.long.status != 0 {
					answer.Status = k.long.status
				}
			}
		} else if takenOnly {
			r.Body.Set("Failed", "properties", "provisioningState")
		}
		if failed == nil {
			answer.Body = s.view(r)
		}
		return nil
	})
	if err == nil {
		err = failed
	}
	return answer, err
}

// Delete removes a resource and its parts, and waits until they are gone. One that is not there
// is no error.
func (c *Control) Delete(id string) error {
	answer, err := c.BeginDelete(id)
	_, err = c.wait(id, answer, err)
	return err
}

// BeginDelete sends a DELETE, and returns what is answered at once.
func (c *Control) BeginDelete(id string) (answer Answer, err error) {
	parsed, err := ParseID(id)
	if err != nil {
		return Answer{}, err
	}
	var failed error
	err = c.change(func(s *State) error {
		mode := s.fault(parsed, "delete")
		switch mode {
		case Before:
			failed = errInternal
		case Throttle:
			failed = errThrottled
		}
		s.log("delete", parsed, failed)
		if failed != nil {
			return nil
		}
		answer.Status = 200
		k, r := kinds[key(parsed.Type)], s.get(id)
		if k == nil || k.long == nil || r == nil {
			if err := s.remove(parsed); err != nil {
				return err
			}
		} else {
			if failed = s.free(k, parsed, r.Body); failed != nil {
				return nil
			}
			if err := s.removable(k, parsed); err != nil {
				if s.Lingering[parsed.Key()] == 0 {
					return err
				}
				s.unlink(id)
				failed = err
				return nil
			}
			op := s.start(k, parsed, "delete", r.Body, nil)
			if mode != "" {
				s.end(op)
				delete(s.Operations, key(op.ID))
			} else {
				answer.Status, answer.AsyncOperation = 202, op.ID
			}
		}
		switch mode {
		case Lost, Accepted:
			failed = ErrLost
		case Died:
			failed = errDied
		}
		return nil
	})
	if err == nil {
		err = failed
	}
	return answer, err
}

const maxLog = 10_000

func (s *State) log(operation string, id ID, failed error) {
	line := operation + " " + id.text
	if failed != nil {
		line += " injected"
	}
	if len(s.Log) < maxLog {
		s.Log = append(s.Log, line)
	}
}

// view is a resource as Azure shows it, its parts within it.
func (s *State) view(r *Resource) Object {
	body := r.Body.Clone()
	k := kinds[key(r.Type)]
	if k == nil {
		return body
	}
	for _, in := range k.inline {
		parts := []any{}
		for _, part := range s.parts(r.ID, in.kind) {
			parts = append(parts, map[string]any(s.view(part)))
		}
		body.Set(parts, in.path...)
	}
	if k.show != nil {
		k.show(s, r, body)
	}
	return body
}

// parts are the parts of one kind that a resource has, in the order in which they were made.
func (s *State) parts(id, kind string) []*Resource {
	all := s.where(func(r *Resource) bool { return same(r.Type, kind) && same(up(r.ID), id) })
	for i := range all { // few: sorted by insertion
		for j := i; j > 0 && all[j].Made < all[j-1].Made; j-- {
			all[j], all[j-1] = all[j-1], all[j]
		}
	}
	return all
}

// put is the whole of a PUT, under the lock.
func (s *State) put(id ID, body Object) error {
	k, err := kindOf(id)
	if err != nil {
		return err
	}
	namespace, _, _ := strings.Cut(k.name, "/")
	if slices.ContainsFunc(s.Settings.Unregistered, func(u string) bool { return same(u, namespace) }) {
		return failure(409, "MissingSubscriptionRegistration", "The subscription is not registered to use namespace '%s'. See https://aka.ms/rps-not-found for how to register subscriptions.", namespace)
	}
	if err := decode(k.model, body); err != nil {
		return err
	}
	if err := s.place(k, id); err != nil {
		return err
	}
	o := &operation{s: s, kind: k, id: id, body: body.Clone()}
	if r := s.get(id.text); r != nil {
		o.old = s.view(r)
		o.id = ID{text: r.ID, scope: id.scope, Type: id.Type, Names: id.Names} // the case of the first request stays
	}
	if err := o.locate(); err != nil {
		return err
	}
	if k.prepare != nil {
		if err := k.prepare(o); err != nil {
			return err
		}
	}
	if err := o.refer(); err != nil {
		return err
	}
	parts, err := o.split()
	if err != nil {
		return err
	}
	if k.rules != nil {
		if err := k.rules(o); err != nil {
			return err
		}
	}
	r := s.get(id.text)
	if r == nil {
		s.Made++
		r = &Resource{ID: id.text, Type: k.name, Made: s.Made, Unseen: o.unseen}
		s.Resources[id.Key()] = r
	}
	o.body.Set(r.ID, "id")
	o.body.Set(last(r.ID), "name")
	o.body.Set(k.name, "type")
	if k.provisions() {
		o.body.Set("Succeeded", "properties", "provisioningState")
	}
	if k.fill != nil {
		k.fill(o, r)
	}
	r.Body = o.body
	for _, p := range parts {
		if err := s.replaceParts(r, p); err != nil {
			return err
		}
	}
	if k.after != nil {
		if err := k.after(o, r); err != nil {
			return err
		}
	}
	if o.accepted != nil {
		o.accepted.Accepted = true
		return o.accepted
	}
	return nil
}

// place checks what an id stands below.
func (s *State) place(k *kind, id ID) error {
	if parts := strings.Split(id.text, "/"); len(parts) > 2 && !same(parts[2], s.Settings.Subscription) {
		return failure(404, "SubscriptionNotFound", "The subscription '%s' could not be found.", parts[2])
	}
	if g := id.groupID(); g != "" && id.Type != typeGroup && s.get(g) == nil {
		return failure(404, "ResourceGroupNotFound", "Resource group '%s' could not be found.", id.Group())
	}
	parent := id.Parent()
	if k.singletonParent {
		parent = up(parent)
	}
	if parent != "" && s.get(parent) == nil {
		return failure(404, "ParentResourceNotFound", "Failed to perform 'write' on resource(s) of type '%s', because the parent resource '%s' could not be found.", strings.SplitN(k.name, "/", 2)[1], parent)
	}
	if s.get(id.text) == nil && k.valid != nil {
		return k.valid(id.Name())
	}
	return nil
}

// locate checks the location, which cannot be changed.
func (o *operation) locate() error {
	if !o.kind.located {
		return nil
	}
	here := o.body.Text("location")
	switch {
	case here == "" && o.old != nil:
		o.body.Set(o.old.Text("location"), "location")
		return nil
	case here == "":
		return failure(400, "LocationRequired", "The location property is required for this definition.")
	case o.kind.global != same(here, "global"):
		return failure(400, "LocationNotAvailableForResourceType", "The provided location '%s' is not available for resource type '%s'.", here, o.kind.name)
	}
	o.body.Set(region(here), "location")
	if o.old != nil && region(o.old.Text("location")) != region(here) {
		return failure(409, "InvalidResourceLocation", "The resource '%s' already exists in location '%s' in resource group '%s'. A resource with the same name cannot be created in location '%s'. Please select a new resource name.", o.id.Name(), o.old.Text("location"), o.id.Group(), here)
	}
	return nil
}

// region is a location as Azure stores it: East US 2 is eastus2.
func region(s string) string { return strings.ToLower(strings.ReplaceAll(s, " ", "")) }

// refer checks that what a body names exists.
func (o *operation) refer() error {
	own := o.id.Key()
	for _, m := range mentions(map[string]any(o.body)) {
		id, err := ParseID(m)
		if err != nil {
			if strings.HasPrefix(key(m), own+"/") {
				continue
			}
			return failure(400, "LinkedInvalidPropertyId", "Property id '%s' at path '' is invalid. Expect fully qualified resource Id that start with '/subscriptions/{subscriptionId}' or '/providers/{resourceProviderNamespace}/'.", m)
		}
		if key(m) == own || strings.HasPrefix(key(m), own+"/") || kinds[key(id.Type)] == nil || id.Type == typeSubscription ||
			same(id.Type, typeRoleDefinition) { // most are built in; a rule of the assignment looks for it
			continue
		}
		if o.s.get(m) == nil {
			return unknownReference(o.id, m)
		}
	}
	return nil
}

// inlined are the parts that came in a body.
type inlined struct {
	inline
	bodies []Object
}

// split takes the parts out of a body. Where a body says nothing about them, a network keeps its
// subnets and peerings, as Azure does since 2023; a route table and a security group lose theirs.
func (o *operation) split() ([]inlined, error) {
	var all []inlined
	for _, in := range o.kind.inline {
		given := o.body.At(in.path...)
		bodies := o.body.List(in.path...)
		o.body.Remove(in.path...)
		if given == nil && in.kept {
			continue
		}
		for _, b := range bodies {
			if b.Text("name") == "" {
				return nil, failure(400, "InvalidRequestFormat", "Cannot parse the request. Details: a part of %s has no name.", o.id)
			}
		}
		all = append(all, inlined{in, bodies})
	}
	return all, nil
}

// replaceParts makes the parts of a resource those that came with it: the others are deleted.
func (s *State) replaceParts(r *Resource, p inlined) error {
	segment := p.kind[strings.LastIndex(p.kind, "/")+1:]
	want := map[string]bool{}
	for _, b := range p.bodies {
		want[key(r.ID+"/"+segment+"/"+b.Text("name"))] = true
	}
	for _, part := range s.parts(r.ID, p.kind) {
		if !p.kept { // routes and rules hold nothing up, and may change places
			delete(s.Resources, key(part.ID))
		} else if !want[key(part.ID)] {
			id, err := ParseID(part.ID)
			if err != nil {
				return err
			}
			if err := s.remove(id); err != nil {
				return err
			}
		}
	}
	for _, b := range p.bodies {
		id, err := ParseID(fmt.Sprintf("%s/%s/%s", r.ID, segment, b.Text("name")))
		if err != nil {
			return err
		}
		if err := s.put(id, b); err != nil {
			return err
		}
	}
	return nil
}

// remove is the whole of a DELETE, under the lock.
func (s *State) remove(id ID) error {
	k, err := kindOf(id)
	if err != nil {
		return err
	}
	r := s.get(id.text)
	if r == nil {
		if id.Type == typeGroup {
			return notFound(id)
		}
		return nil
	}
	if err := s.removable(k, id); err != nil {
		return err
	}
	gone := map[string]*Resource{}
	if k.softDeleted {
		gone = s.Deleted
	}
	s.move(s.Resources, gone, id.text)
	if k.removed != nil {
		k.removed(&operation{s: s, kind: k, id: id, old: r.Body}, r)
	}
	return nil
}

// removable says why Azure would not delete what is there.
func (s *State) removable(k *kind, id ID) error {
	switch {
	case k.undeletable:
		return failure(405, "MethodNotAllowed", "The HTTP method 'DELETE' is not supported at scope '%s'.", id)
	case k.removable != nil:
		return k.removable(&operation{s: s, kind: k, id: id, old: s.view(s.get(id.text))})
	}
	return nil
}
