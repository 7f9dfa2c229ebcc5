package azurenative

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi/sdk/v3/go/property"

	"github.com/bulkhead-dev/bulkhead/tests/twin/arm"
)

// Version is azure-native's, whose SDK the components are written against.
const Version = "2.90.0"

// StateVariable names the file with the control plane's state, for the provider that Pulumi
// starts as a process.
const StateVariable = "BULKHEAD_TWIN_ARM"

// native is one running provider.
type native struct {
	types        map[string]*resource
	control      *arm.Control
	subscription string
	tenant       string
	deployer     arm.Principal
	location     string // of the configuration
}

// New makes the provider of a version, [Version] or [Version3], over a control plane.
func New(control *arm.Control, version string) (p.Provider, error) {
	known, ok := map[string]map[string]*resource{Version: types, Version3: types3}[version]
	if !ok {
		return p.Provider{}, fmt.Errorf("the twin has no azure-native %s", version)
	}
	state, err := control.State()
	if err != nil {
		return p.Provider{}, err
	}
	s := state.Settings
	n := &native{types: known, control: control, subscription: s.Subscription, tenant: s.Tenant, deployer: s.Deployer}
	return p.Provider{
		CheckConfig: func(_ context.Context, req p.CheckRequest) (p.CheckResponse, error) {
			return p.CheckResponse{Inputs: req.Inputs}, nil
		},
		DiffConfig: func(context.Context, p.DiffRequest) (p.DiffResponse, error) { return p.DiffResponse{}, nil },
		Configure: func(_ context.Context, req p.ConfigureRequest) error {
			if v := req.Args.Get("location"); v.IsString() {
				n.location = v.AsString()
			}
			return nil
		},
		Cancel: func(context.Context) error { return nil },
		Check:  n.check,
		Diff:   n.diff,
		Create: n.create,
		Read:   n.read,
		Update: n.update,
		Delete: n.delete,
		Invoke: n.invoke,
	}, nil
}

func (n *native) lookup(token string) (*resource, error) {
	r, ok := n.types[token]
	if !ok {
		return nil, fmt.Errorf("the twin's azure-native does not know the type %s; it knows %s", token, strings.Join(slices.Sorted(maps.Keys(n.types)), ", "))
	}
	return r, nil
}

// id is the ARM id that inputs name.
func (n *native) id(r *resource, in map[string]any) (string, error) {
	id := strings.ReplaceAll(r.path, "{subscriptionId}", n.subscription)
	for _, name := range r.names() {
		v, ok := in[name].(string)
		if !ok || v == "" {
			return "", fmt.Errorf("expected string value for path parameter '%s'", name)
		}
		id = strings.ReplaceAll(id, "{"+name+"}", strings.Trim(v, "/"))
	}
	return id, nil
}

// request is what is sent: everything but what stands in the path.
func (n *native) request(r *resource, in map[string]any) (arm.Object, error) {
	rest := maps.Clone(in)
	for _, name := range r.names() {
		delete(rest, name)
	}
	if hasUnknown(rest) {
		return nil, errors.New("a value is not known yet")
	}
	return body(rest, r.args, r.model())
}

// results are the outputs of what Azure answered.
func (r *resource) results(o arm.Object) map[string]any {
	if r.state != nil {
		return outputs(o, r.state, r.model())
	}
	out := map[string]any(o.Clone())
	delete(out, "id")
	if inner := arm.Object(out).Object("properties"); r.flat && inner != nil {
		delete(out, "properties")
		maps.Copy(out, inner)
	}
	return out
}

// before is what preview shows.
func (r *resource) before(in map[string]any) map[string]any {
	if r.state != nil {
		return preview(in, r.state)
	}
	out := maps.Clone(in)
	for _, name := range r.names() {
		delete(out, name)
	}
	out["name"], out["type"] = unknown{}, unknown{}
	fields := arm.Fields(r.model())
	if r.flat {
		fields = arm.Fields(fields["properties"])
	}
	for k := range fields {
		if _, given := out[k]; !given && k != "id" && k != "properties" {
			out[k] = unknown{}
		}
	}
	return out
}

// attempts is how often a request is sent where Azure throttles it or no reply comes: what azcore
// does by itself (azcore/runtime, policy_retry.go), and autorest before it.
const attempts = 4

// retry sends again at once: the twin's clock is not a test's. A PUT whose reply was lost is sent
// anew, and finds there what it made; only a provider that dies leaves something unrecorded.
func retry[T any](f func() (T, error)) (result T, err error) {
	for range attempts {
		if result, err = f(); arm.Code(err) != "TooManyRequests" && !errors.Is(err, arm.ErrLost) {
			break
		}
	}
	return result, err
}

func (n *native) create(_ context.Context, req p.CreateRequest) (p.CreateResponse, error) {
	r, err := n.lookup(string(req.Urn.Type()))
	if err != nil {
		return p.CreateResponse{}, err
	}
	in := plainMap(req.Properties)
	if req.DryRun {
		return p.CreateResponse{Properties: values(r.before(in))}, nil
	}
	id, err := n.id(r, in)
	if err != nil {
		return p.CreateResponse{}, err
	}
	o, err := n.request(r, in)
	if err != nil {
		return p.CreateResponse{}, fmt.Errorf("error preparing body for %s: %w", id, err)
	}
	if !r.singleton {
		switch _, err := n.control.Get(id); {
		case err == nil:
			return p.CreateResponse{}, fmt.Errorf("cannot create already existing resource '%s'", id)
		case !arm.NotFound(err):
			return p.CreateResponse{}, err
		}
	}
	for _, name := range r.maintained {
		if path := r.wire(name); o.At(path...) == nil {
			o.Set([]any{}, path...)
		}
	}
	answer, err := retry(func() (arm.Object, error) { return n.control.Put(id, o) })
	if err != nil {
		partial, err := n.partial(r, id, err)
		if partial == nil {
			return p.CreateResponse{}, err
		}
		return p.CreateResponse{ID: id, Properties: *partial, PartialState: &p.InitializationFailed{Reasons: []string{err.Error()}}}, err
	}
	return p.CreateResponse{ID: answer.Text("id"), Properties: values(r.results(answer))}, nil
}

// partial is the state of what Azure made and failed to finish: Pulumi keeps it.
func (n *native) partial(r *resource, id string, err error) (*property.Map, error) {
	var refused *arm.Error
	if !errors.As(err, &refused) || !refused.Accepted {
		return nil, err
	}
	o, get := n.control.Get(id)
	if get != nil {
		return nil, errors.Join(err, get)
	}
	state := values(r.results(o))
	return &state, err
}

// wire is the path of a property in a body.
func (r *resource) wire(name string) []string {
	var path []string
	m := r.model()
	for part := range strings.SplitSeq(name, ".") {
		at, inner, ok := place(m, part)
		if !ok {
			panic("azurenative: no " + name + " in " + r.kind)
		}
		path, m = append(path, at...), inner
	}
	return path
}

func (n *native) update(_ context.Context, req p.UpdateRequest) (p.UpdateResponse, error) {
	r, err := n.lookup(string(req.Urn.Type()))
	if err != nil {
		return p.UpdateResponse{}, err
	}
	in := plainMap(req.Inputs)
	if req.DryRun {
		out := r.before(in)
		for _, stable := range []string{"name", "location"} {
			if v, ok := plainMap(req.State)[stable]; ok {
				out[stable] = v
			}
		}
		return p.UpdateResponse{Properties: values(out)}, nil
	}
	o, err := n.request(r, in)
	if err != nil {
		return p.UpdateResponse{}, fmt.Errorf("error preparing body for %s: %w", req.ID, err)
	}
	if len(r.maintained) > 0 {
		now, err := n.control.Get(req.ID)
		if err != nil {
			return p.UpdateResponse{}, fmt.Errorf("failed maintaining unset sub-resource properties: reading cloud state: %w", err)
		}
		for _, name := range r.maintained {
			if path := r.wire(name); o.At(path...) == nil && now.At(path...) != nil {
				o.Set(now.At(path...), path...)
			}
		}
	}
	answer, err := retry(func() (arm.Object, error) { return n.control.Put(req.ID, o) })
	if err != nil {
		partial, err := n.partial(r, req.ID, err)
		if partial == nil {
			return p.UpdateResponse{}, err
		}
		return p.UpdateResponse{Properties: *partial, PartialState: &p.InitializationFailed{Reasons: []string{err.Error()}}}, err
	}
	return p.UpdateResponse{Properties: values(r.results(answer))}, nil
}

func (n *native) delete(_ context.Context, req p.DeleteRequest) error {
	r, err := n.lookup(string(req.Urn.Type()))
	if err != nil {
		return err
	}
	_, err = retry(func() (any, error) {
		switch {
		case r.dataPlane:
			return nil, n.control.DeleteKey(n.deployer.ObjectID, req.ID)
		case r.singleton: // it goes back to what it was
			_, err := n.control.Put(req.ID, arm.Object{"properties": map[string]any{}})
			return nil, err
		}
		return nil, n.control.Delete(req.ID)
	})
	if arm.NotFound(err) {
		return nil
	}
	return err
}

func (n *native) read(_ context.Context, req p.ReadRequest) (p.ReadResponse, error) {
	r, err := n.lookup(string(req.Urn.Type()))
	if err != nil {
		return p.ReadResponse{}, err
	}
	o, err := n.control.Get(req.ID)
	switch {
	case arm.NotFound(err):
		return p.ReadResponse{}, nil
	case err != nil:
		return p.ReadResponse{}, err
	}
	out, in := r.results(o), plainMap(req.Inputs)
	if len(in) == 0 { // an import
		in = r.inputs(out)
		if r.args != nil { // from the body: outputs do not always have the shape of inputs
			in = project(outputs(o, r.args, r.model()), r.args)
		}
		for k, v := range r.parse(req.ID) {
			in[k] = v
		}
	} else {
		seen := maps.Clone(out)
		for _, name := range r.maintained {
			if at(in, name) == nil {
				seen = arm.Object(seen).Clone()
				arm.Object(seen).Remove(strings.Split(name, ".")...)
			}
		}
		in = apply(in, r.inputs(plainMap(req.Properties)), r.inputs(seen))
	}
	return p.ReadResponse{ID: o.Text("id"), Properties: values(out), Inputs: values(in)}, nil
}

// inputs are what of outputs a program could have said.
func (r *resource) inputs(out map[string]any) map[string]any {
	if r.args != nil {
		return project(out, r.args)
	}
	in := map[string]any{}
	for _, k := range []string{"identity", "kind", "location", "properties", "sku", "tags"} {
		if v, ok := out[k]; ok {
			in[k] = v
		}
	}
	return in
}

// parse reads the properties that stand in an id.
func (r *resource) parse(id string) map[string]any {
	all := map[string]any{}
	want, have := strings.Split(r.path, "/"), strings.Split(id, "/")
	if extra := len(have) - len(want); extra > 0 && want[1] == "{scope}" {
		all["scope"] = strings.Join(have[:2+extra], "/")
		have = have[extra:]
	}
	for i := range min(len(want), len(have)) {
		if name := strings.Trim(want[i], "{}"); name != want[i] && name != "subscriptionId" && name != "scope" {
			all[name] = have[i]
		}
	}
	return all
}

func (n *native) invoke(_ context.Context, req p.InvokeRequest) (p.InvokeResponse, error) {
	switch token := string(req.Token); token {
	case "azure-native:authorization:getClientConfig":
		return p.InvokeResponse{Return: values(map[string]any{
			"clientId": n.deployer.ClientID, "objectId": n.deployer.ObjectID, "subscriptionId": n.subscription, "tenantId": n.tenant,
		})}, nil
	default:
		return p.InvokeResponse{}, fmt.Errorf("the twin's azure-native does not know the function %s", token)
	}
}
