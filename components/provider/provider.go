// Package provider is the Pulumi plugin: the components of this repository and the custom
// resources that they are made with, for programs in every language.
//
// Everything about them is inferred from the Go types, their descriptions included; this
// package says what the registry and the generators of SDKs need beside that. The schema
// that comes of it is committed as schema.json at the root of the repository, and a test
// holds the two together.
package provider

import (
	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi-go-provider/infer"
	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"

	"github.com/bulkhead-dev/bulkhead/components"
	"github.com/bulkhead-dev/bulkhead/components/attestation"
	"github.com/bulkhead-dev/bulkhead/components/bundle"
	"github.com/bulkhead-dev/bulkhead/components/canaryrun"
	"github.com/bulkhead-dev/bulkhead/components/rootcertificate"
	"github.com/bulkhead-dev/bulkhead/components/ruleset"
	"github.com/bulkhead-dev/bulkhead/components/spokelock"
)

// Name is the package's name.
const Name = "bulkhead"

const repository = "https://github.com/bulkhead-dev/bulkhead"

// New is the plugin of a version, which is also the one that the components ask the engine
// for when they make a custom resource.
func New(version string) (p.Provider, error) {
	components.Version = version
	return infer.NewProviderBuilder().
		WithNamespace("bulkhead-dev").
		WithDisplayName("Bulkhead").
		WithDescription("Network containment for AI agents: a Foundry spoke whose agents have one way out, through a gateway that enforces one ordered ruleset.").
		WithKeywords("bulkhead", "azure", "foundry", "agents", "egress", "category/network", "kind/component").
		WithPublisher("Bulkhead").
		WithLicense("Apache-2.0").
		WithRepository(repository).
		WithHomepage(repository).
		WithLogoURL("https://raw.githubusercontent.com/bulkhead-dev/bulkhead/main/docs/logo.svg").
		WithPluginDownloadURL(components.PluginURL).
		WithLanguageMap(languages).
		WithModuleMap(modules).
		WithComponents(components.Components()...).
		WithResources(
			infer.Resource(&ruleset.Ruleset{}),
			infer.Resource(&bundle.GatewayBundle{}),
			infer.Resource(&rootcertificate.RootCertificate{}),
			infer.Resource(&attestation.Attestation{}),
			infer.Resource(&canaryrun.CanaryRun{}),
			infer.Resource(&spokelock.SpokeLock{}),
		).
		Build()
}

// modules puts everything into one module, whatever Go package it is written in.
var modules = map[tokens.ModuleName]tokens.ModuleName{
	"components": "index",
}

// languages are the generators' settings.
var languages = map[string]any{
	"nodejs": map[string]any{
		"packageName":          "@bulkhead-dev/bulkhead",
		"packageDescription":   "Network containment for AI agents, as Pulumi components.",
		"respectSchemaVersion": true,
		"dependencies":         map[string]string{"@pulumi/pulumi": "^3.142.0"},
		"devDependencies":      map[string]string{"typescript": "^5.0.0", "@types/node": "^22.0.0"},
	},
	"python": map[string]any{
		"packageName":          "bulkhead_dev_bulkhead",
		"respectSchemaVersion": true,
		"pyproject":            map[string]any{"enabled": true},
		"requires":             map[string]string{"pulumi": ">=3.142.0,<4.0.0"},
	},
	"go": map[string]any{
		"importBasePath":                 "github.com/bulkhead-dev/bulkhead/sdk/go/bulkhead",
		"generateResourceContainerTypes": true,
		"respectSchemaVersion":           true,
	},
	"csharp": map[string]any{
		"rootNamespace":        "BulkheadDev",
		"namespaces":           map[string]string{"bulkhead": "Bulkhead"},
		"packageReferences":    map[string]string{"Pulumi": "3.*"},
		"respectSchemaVersion": true,
	},
	"java": map[string]any{
		"basePackage":  "dev.bulkhead",
		"buildFiles":   "gradle",
		"dependencies": map[string]string{"com.pulumi:pulumi": "1.16.0"},
	},
}
