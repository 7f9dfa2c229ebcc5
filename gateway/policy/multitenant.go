package policy

import (
	"strings"

	"golang.org/x/net/publicsuffix"
)

// tenantHosts are domains under which anybody can get a name, beside those in the
// public suffix list. They matter where a wildcard stands for the tenant's label,
// or for the whole host.
var tenantHosts = []string{
	// Azure, where a resource's name becomes a host.
	"blob.core.windows.net", "dfs.core.windows.net", "file.core.windows.net", "queue.core.windows.net", "table.core.windows.net", "web.core.windows.net",
	"servicebus.windows.net", "database.windows.net", "search.windows.net", "redis.cache.windows.net", "kusto.windows.net",
	"azurewebsites.net", "azureedge.net", "azurefd.net", "trafficmanager.net", "cloudapp.net", "cloudapp.azure.com", "azure-api.net",
	"azurecr.io", "vault.azure.net", "documents.azure.com", "openai.azure.com", "cognitiveservices.azure.com", "services.ai.azure.com",
	"communication.azure.com", "azurecontainerapps.io", "azurestaticapps.net", "azure-devices.net", "azuredatabricks.net",
	"service.signalr.net", "webpubsub.azure.com", "eventgrid.azure.net", "azconfig.io", "ods.opinsights.azure.com",
	"sharepoint.com", "onmicrosoft.com", "visualstudio.com", "devtunnels.ms", "logic.azure.com", "powerapps.com", "dynamics.com",
	// Elsewhere.
	"amazonaws.com", "s3.amazonaws.com", "cloudfront.net", "googleapis.com", "run.app", "web.app", "firebaseio.com", "firebaseapp.com", "appspot.com",
	"github.io", "githubusercontent.com", "gitlab.io", "workers.dev", "pages.dev", "r2.dev", "cloudflarestorage.com", "trycloudflare.com",
	"digitaloceanspaces.com", "backblazeb2.com", "wasabisys.com", "vercel.app", "netlify.app", "herokuapp.com", "onrender.com", "fly.dev",
	"supabase.co", "ngrok.io", "ngrok.app", "ngrok-free.app", "slack.com", "atlassian.net", "zendesk.com", "myshopify.com", "webhook.site",
	"oast.fun", "oast.pro", "oast.live", "oastify.com", "burpcollaborator.net", "requestbin.net", "pipedream.net", "hooks.dev",
}

// multiTenant returns the domain under which anybody can get a name that the
// pattern matches, or "".
func multiTenant(pattern string) string {
	star := strings.LastIndexByte(pattern, '*')
	if star < 0 {
		return ""
	}
	_, tail, _ := strings.Cut(pattern[star:], ".")
	if tail == "" {
		return "every top-level domain"
	}
	// The label with the star is the one that is registered.
	if suffix, icann := publicsuffix.PublicSuffix(tail); suffix == tail && (icann || strings.Contains(suffix, ".")) {
		return tail
	}
	labels := strings.Split(pattern, ".")
	for _, host := range tenantHosts {
		// The label before the host, and the host's own, must all be literal for
		// the pattern to name one tenant.
		need := strings.Count(host, ".") + 2
		named := len(labels) >= need && !strings.Contains(strings.Join(labels[len(labels)-need:], "."), "*")
		if !named && overlap(pattern, "*."+host) {
			return host
		}
	}
	return ""
}
