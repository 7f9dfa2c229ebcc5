import * as bulkhead from "@bulkhead-dev/bulkhead";
import * as authorization from "@pulumi/azure-native/authorization";
import * as cognitive from "@pulumi/azure-native/cognitiveservices";
import * as cosmosdb from "@pulumi/azure-native/cosmosdb";
import * as network from "@pulumi/azure-native/network";
import * as search from "@pulumi/azure-native/search";
import * as storage from "@pulumi/azure-native/storage";
import * as pulumi from "@pulumi/pulumi";
import { setTimeout } from "timers/promises";

const config = new pulumi.Config();
const location = config.get("location") ?? "eastus2";
const bound = config.getBoolean("bound") ?? false;
const accountName = config.get("accountName") ?? `${pulumi.getProject()}-${pulumi.getStack()}`;

// 1. The spoke. Everything below waits for it through its outputs.
const spoke = new bulkhead.FoundrySpoke("spoke", {
    location,
    bundleFile: config.require("bundleFile"),
    agentPrefix: config.get("agentPrefix") ?? "10.20.1.0/24",
    toolCalls: config.getObject<string[]>("toolCalls") ?? [],
    deployerAddresses: config.getObject<string[]>("deployerAddresses") ?? [],
    foundry: { name: accountName, standardSetup: true, bound },
    protect: config.getBoolean("protect") ?? true,
});
const place = { location, resourceGroupName: spoke.resourceGroupName };

// privateEndpoint gives a service an address in the spoke and its name there. Azure changes
// one private endpoint of a subnet at a time, so each waits for the one before.
let before: pulumi.Resource[] = [];
function privateEndpoint(name: string, service: pulumi.Input<string>, group: string, zones: string[]): pulumi.Resource {
    const endpoint = new network.PrivateEndpoint(name, {
        ...place,
        subnet: { id: spoke.privateEndpointSubnetId },
        privateLinkServiceConnections: [{ name, privateLinkServiceId: service, groupIds: [group] }],
    }, { dependsOn: before });
    const names = new network.PrivateDnsZoneGroup(name, {
        resourceGroupName: spoke.resourceGroupName,
        privateEndpointName: endpoint.name,
        privateDnsZoneGroupName: "default",
        privateDnsZoneConfigs: zones.map((zone) => ({
            name: zone.replace(/\./g, "-"),
            privateDnsZoneId: spoke.privateZoneIds.apply((ids) => ids[zone]),
        })),
    });
    before = [endpoint, names];
    return names;
}

// 2. What the project keeps its data in. Nobody reaches it but through the spoke, and nobody
// with a key.
const database = new cosmosdb.DatabaseAccount("threads", {
    ...place,
    kind: "GlobalDocumentDB",
    databaseAccountOfferType: "Standard",
    locations: [{ locationName: location, failoverPriority: 0 }],
    consistencyPolicy: { defaultConsistencyLevel: "Session" },
    disableLocalAuth: true,
    publicNetworkAccess: "Disabled",
});
const index = new search.Service("vectors", {
    ...place,
    sku: { name: "standard" },
    replicaCount: 1,
    partitionCount: 1,
    identity: { type: "SystemAssigned" },
    disableLocalAuth: true,
    publicNetworkAccess: "disabled",
});
const files = new storage.StorageAccount("files", {
    ...place,
    kind: "StorageV2",
    sku: { name: "Standard_ZRS" },
    allowSharedKeyAccess: false,
    allowBlobPublicAccess: false,
    minimumTlsVersion: "TLS1_2",
    publicNetworkAccess: "Disabled",
    networkRuleSet: { defaultAction: "Deny", bypass: "AzureServices" },
});
privateEndpoint("threads", database.id, "Sql", ["privatelink.documents.azure.com"]);
privateEndpoint("vectors", index.id, "searchService", ["privatelink.search.windows.net"]);
privateEndpoint("files", files.id, "blob", ["privatelink.blob.core.windows.net"]);

// 3. The account. Subnet, name and project management can only be given now.
const account = new cognitive.Account("account", {
    ...place,
    accountName,
    kind: "AIServices",
    sku: { name: "S0" },
    identity: { type: "SystemAssigned" },
    properties: {
        allowProjectManagement: true,
        customSubDomainName: accountName,
        disableLocalAuth: true,
        publicNetworkAccess: "Disabled",
        networkAcls: { defaultAction: "Deny", bypass: "AzureServices" },
        networkInjections: spoke.networkInjections.apply((all) => all.map((one) => ({
            scenario: one.scenario,
            subnetArmId: one.subnetArmId,
            useMicrosoftManagedNetwork: one.useMicrosoftManagedNetwork,
        }))),
    },
    // Another subnet would be another account: delete and purge this one first.
}, { protect: bound });
const accountNames = privateEndpoint("account", account.id, "account", [
    "privatelink.cognitiveservices.azure.com",
    "privatelink.openai.azure.com",
    "privatelink.services.ai.azure.com",
]);

// 4. The project, what it is connected with, and what its identity may do there.
const project = new cognitive.Project("project", {
    ...place,
    accountName: account.name,
    projectName: "agents",
    identity: { type: "SystemAssigned" },
    properties: { displayName: "agents", description: "Agents in a contained spoke" },
}, { dependsOn: [accountNames] });

function connection(name: string, category: string, target: pulumi.Input<string>, service: pulumi.Input<string>, after: pulumi.Resource[]): cognitive.ProjectConnection {
    return new cognitive.ProjectConnection(name, {
        resourceGroupName: spoke.resourceGroupName,
        accountName: account.name,
        projectName: project.name,
        connectionName: name,
        properties: {
            authType: "AAD",
            category,
            target,
            metadata: { ApiType: "Azure", ResourceId: service, location },
        },
    }, { dependsOn: after });
}
// A project's connections are made one after the other too.
const threads = connection("threads", "CosmosDB", database.documentEndpoint, database.id, []);
const blobs = connection("files", "AzureStorageAccount", files.primaryEndpoints.apply((e) => e.blob), files.id, [threads]);
const vectors = connection("vectors", "CognitiveSearch", pulumi.interpolate`https://${index.name}.search.windows.net`, index.id, [blobs]);

const identity = project.identity.apply((i) => i?.principalId ?? "");
const subscription = authorization.getClientConfigOutput().subscriptionId;
function role(name: string, scope: pulumi.Input<string>, definition: string): authorization.RoleAssignment {
    return new authorization.RoleAssignment(name, {
        scope,
        principalId: identity,
        principalType: "ServicePrincipal",
        roleDefinitionId: pulumi.interpolate`/subscriptions/${subscription}/providers/Microsoft.Authorization/roleDefinitions/${definition}`,
    });
}
const roles = [
    role("operates-threads", database.id, "230815da-be43-4aae-9cb4-875f7bd000aa"), // Cosmos DB Operator
    role("writes-files", files.id, "ba92f5b4-2d11-453d-a403-e96b0029c9fe"), // Storage Blob Data Contributor
    role("writes-vectors", index.id, "8ebe5a00-799e-43f5-93ac-243d3dce84a7"), // Search Index Data Contributor
    role("manages-vectors", index.id, "7ca78c08-252a-4471-8644-bb5ff32d4ba0"), // Search Service Contributor
];

// 5. The capability host. It cannot be changed afterwards, only deleted and made anew. The
// account's own came with the account. A role is believed everywhere some time after it was
// given, and a host that comes earlier fails: it waits a minute, until there is one.
const hostName = bound ? "agents" : pulumi.all(roles.map((given) => given.id)).apply(async () => {
    if (!pulumi.runtime.isDryRun()) {
        await setTimeout(1000 * (config.getNumber("roleSeconds") ?? 60));
    }
    return "agents";
});
const host = new cognitive.ProjectCapabilityHost("agents", {
    resourceGroupName: spoke.resourceGroupName,
    accountName: account.name,
    projectName: project.name,
    capabilityHostName: hostName,
    projectCapabilityHostProperties: {
        threadStorageConnections: [threads.name],
        storageConnections: [blobs.name],
        vectorStoreConnections: [vectors.name],
    },
}, { dependsOn: roles, protect: bound });

// What the capability host makes in the database is the project's alone to read and write.
new cosmosdb.SqlResourceSqlRoleAssignment("data", {
    resourceGroupName: spoke.resourceGroupName,
    accountName: database.name,
    roleAssignmentId: "b01dc0de-0000-4000-8000-000000000001",
    principalId: identity,
    roleDefinitionId: pulumi.interpolate`${database.id}/sqlRoleDefinitions/00000000-0000-0000-0000-000000000002`,
    scope: pulumi.interpolate`${database.id}/dbs/enterprise_memory`,
}, { dependsOn: [host] });

export const endpoint = pulumi.interpolate`https://${account.name}.services.ai.azure.com/api/projects/${project.name}`;
export const agentSubnetId = spoke.agentSubnetId;
export const rootCertificate = spoke.rootCertificate;
