package arm

import (
	"fmt"
	"strings"
)

// ID is a parsed ARM id. Ids compare without regard to case: see [ID.Key].
type ID struct {
	text  string
	scope string // what stands before the last /providers/
	Type  string // such as Microsoft.Network/virtualNetworks/subnets
	Names []string
}

// ParseID reads the id of a resource or of a resource group.
func ParseID(s string) (ID, error) {
	bad := failure(400, "InvalidResourceId", "The resource ID '%s' is not valid.", s)
	if !strings.HasPrefix(s, "/subscriptions/") || strings.HasSuffix(s, "/") || strings.Contains(s, "//") {
		return ID{}, bad
	}
	at := strings.LastIndex(strings.ToLower(s), "/providers/")
	if at < 0 {
		parts := strings.Split(s[1:], "/")
		switch {
		case len(parts) == 2:
			return ID{text: s, Type: typeSubscription, Names: parts[1:]}, nil
		case len(parts) == 4 && same(parts[2], "resourceGroups"):
			return ID{text: s, scope: "/" + strings.Join(parts[:2], "/"), Type: typeGroup, Names: parts[3:]}, nil
		}
		return ID{}, bad
	}
	parts := strings.Split(s[at+len("/providers/"):], "/")
	if len(parts)%2 == 0 {
		return ID{}, bad
	}
	id := ID{text: s, scope: s[:at], Type: parts[0]}
	for i := 1; i < len(parts); i += 2 {
		id.Type += "/" + parts[i]
		id.Names = append(id.Names, parts[i+1])
	}
	return id, nil
}

func (id ID) String() string { return id.text }

// Key is the id as it is compared.
func (id ID) Key() string { return key(id.text) }

func key(id string) string { return strings.ToLower(id) }

// Name is the resource's own.
func (id ID) Name() string { return id.Names[len(id.Names)-1] }

// Group is the name of the resource group, if there is one.
func (id ID) Group() string {
	parts := strings.Split(id.text, "/")
	if len(parts) > 4 && same(parts[3], "resourceGroups") {
		return parts[4]
	}
	return ""
}

// groupID is the id of the resource group.
func (id ID) groupID() string {
	parts := strings.Split(id.text, "/")
	if id.Group() == "" {
		return ""
	}
	return strings.Join(parts[:5], "/")
}

// Parent is the id of the resource that this one is a part of; empty for one that is not.
func (id ID) Parent() string {
	if len(id.Names) < 2 {
		return ""
	}
	return up(id.text)
}

// up takes the last type and name off an id.
func up(id string) string {
	for range 2 {
		id = id[:max(0, strings.LastIndex(id, "/"))]
	}
	return id
}

// Child is the id of a part of this resource.
func (id ID) Child(kind, name string) string { return fmt.Sprintf("%s/%s/%s", id.text, kind, name) }

// last is an id's last part.
func last(id string) string { return id[strings.LastIndex(id, "/")+1:] }

// Types that no provider namespace's own list has.
const (
	typeSubscription = "Microsoft.Resources/subscriptions"
	typeGroup        = "Microsoft.Resources/resourceGroups"
)
