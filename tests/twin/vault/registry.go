package vault

import (
	"maps"
	"slices"
	"sync"
)

// Registry has vaults for tests that run no resource manager: its Find is Options.Vaults.
type Registry struct {
	mu     sync.Mutex
	vaults map[string]Vault
}

// Find is a vault by its name.
func (g *Registry) Find(name string) (Vault, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	v, ok := g.vaults[name]
	v.Keys = maps.Clone(v.Keys)
	return v, ok
}

// Put makes or changes a vault.
func (g *Registry) Put(name string, v Vault) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.vaults == nil {
		g.vaults = map[string]Vault{}
	}
	g.vaults[name] = v
}

// MakeKey adds a version to a key of a vault that exists, or makes the key.
func (g *Registry) MakeKey(vault, name string, k Key) (version string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	v := g.vaults[vault]
	v.Keys = maps.Clone(v.Keys)
	if v.Keys == nil {
		v.Keys = map[string]Key{}
	}
	version = Version()
	k.Versions = append(slices.Clone(v.Keys[name].Versions), version)
	v.Keys[name] = k
	g.vaults[vault] = v
	return version
}
