import * as bulkhead from "@bulkhead-dev/bulkhead";
import * as pulumi from "@pulumi/pulumi";

const config = new pulumi.Config();

const spoke = new bulkhead.FoundrySpoke("spoke", {
    location: config.get("location") ?? "eastus2",
    bundleFile: config.require("bundleFile"),
    addressSpace: ["10.20.0.0/16"],
    agentPrefix: "10.20.1.0/24",
    toolCalls: ["api.github.com"],
    deployerAddresses: ["203.0.113.10"], // where you deploy from, as Azure sees it
});

export const agentSubnetId = spoke.agentSubnetId;
export const rulesetDigest = spoke.rulesetDigest;
