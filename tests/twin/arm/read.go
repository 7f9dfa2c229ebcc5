package arm

import (
	"maps"
	"slices"
	"strings"
)

// Read answers a GET of Azure's REST interface by its path: a resource, the resources of a type in
// a group, in a subscription or below another resource, and what is deleted or registered. A list
// comes whole, in one page.
func (c *Control) Read(path string) (Object, error) {
	if _, err := ParseID(path); err == nil && !strings.Contains(key(path), "/locations/") {
		return c.Get(path)
	}
	all := []any{}
	add := func(o Object) { all = append(all, map[string]any(o)) }
	err := c.look(func(s *State) error {
		scope, rest, _ := cutLast(path, "/providers/")
		parts := strings.Split(rest, "/")
		of := key(parts[0] + "/" + parts[len(parts)-1])
		subscription := "/subscriptions/" + s.Settings.Subscription
		switch {
		case same(path, subscription+"/resourceGroups"):
			for _, r := range s.ofType(typeGroup) {
				add(s.view(r))
			}
		case same(path, subscription+"/providers"):
			for _, name := range s.namespaces() {
				state := "Registered"
				if slices.ContainsFunc(s.Settings.Unregistered, func(u string) bool { return same(u, name) }) {
					state = "NotRegistered"
				}
				add(Object{"id": path + "/" + name, "namespace": name, "registrationState": state})
			}
		case of == "microsoft.keyvault/deletedvaults", of == "microsoft.cognitiveservices/deletedaccounts":
			kind := map[bool]string{true: typeVault, false: typeAccount}[strings.HasPrefix(of, "microsoft.keyvault")]
			for _, k := range slices.Sorted(maps.Keys(s.Deleted)) {
				if r := s.Deleted[k]; same(r.Type, kind) {
					add(s.deleted(r, parts[len(parts)-1]))
				}
			}
		case of == key(typeRoleAssignment): // those at the scope, above it and below it hold or show there
			for _, r := range s.ofType(typeRoleAssignment) {
				if at := key(r.Body.Text("properties", "scope")); within(at, key(scope)) || within(key(scope), at) {
					add(s.view(r))
				}
			}
		case of == "microsoft.authorization/permissions":
			add(Object{"actions": []any{"*"}, "notActions": []any{}, "dataActions": []any{}, "notDataActions": []any{}})
		case rest != "" && len(parts)%2 == 0:
			return s.list(path, scope, parts, add)
		default:
			return failure(404, "InvalidResourceType", "The twin has no %s.", path)
		}
		return nil
	})
	return Object{"value": all}, err
}

// list are the resources of a type.
func (s *State) list(path, scope string, parts []string, add func(Object)) error {
	kind := parts[0]
	for i := 1; i < len(parts); i += 2 {
		kind += "/" + parts[i]
	}
	if kinds[key(kind)] == nil {
		return nil // a type that the twin cannot have has no resources
	}
	parent := scope // or the resource whose parts are listed
	if len(parts) > 2 {
		parent = path[:strings.LastIndex(path, "/")]
		if !kinds[key(kind)].singletonParent && s.get(parent) == nil {
			id, err := ParseID(parent)
			if err != nil {
				return err
			}
			return missing(s, id)
		}
	}
	for _, r := range s.ofType(kind) {
		if within(key(r.ID), key(parent)) {
			add(s.view(r))
		}
	}
	return nil
}

// within says whether an id is a scope or below it.
func within(id, scope string) bool { return id == scope || strings.HasPrefix(id, scope+"/") }

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(key(s), sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// deleted is how Azure shows what it keeps of a deleted vault or account.
func (s *State) deleted(r *Resource, collection string) Object {
	namespace, _, _ := strings.Cut(r.Type, "/")
	id := "/subscriptions/" + s.Settings.Subscription + "/providers/" + namespace + "/locations/" + r.Body.Text("location") + "/" + collection + "/" + last(r.ID)
	if same(r.Type, typeAccount) {
		o := r.Body.Clone()
		o.Set(r.ID, "id")
		return o
	}
	return Object{"id": id, "name": last(r.ID), "type": namespace + "/" + collection, "properties": map[string]any{
		"vaultId": r.ID, "location": r.Body.Text("location"), "purgeProtectionEnabled": r.Body.True("properties", "enablePurgeProtection")}}
}

// namespaces are the resource providers that the twin knows of.
func (s *State) namespaces() []string {
	all := []string{"Microsoft.ContainerService", "Microsoft.MachineLearningServices", "Microsoft.Search", "Microsoft.Bing", "Microsoft.ContainerRegistry"}
	for _, k := range kinds {
		namespace, _, _ := strings.Cut(k.name, "/")
		all = append(all, namespace)
	}
	slices.Sort(all)
	return slices.Compact(all)
}
