import bulkhead_dev_bulkhead as bulkhead
import pulumi

config = pulumi.Config()

spoke = bulkhead.FoundrySpoke(
    "spoke",
    location=config.get("location") or "eastus2",
    bundle_file=config.require("bundleFile"),
    address_space=["10.20.0.0/16"],
    agent_prefix="10.20.1.0/24",
    tool_calls=["api.github.com"],
    deployer_addresses=["203.0.113.10"],  # where you deploy from, as Azure sees it
)

pulumi.export("agentSubnetId", spoke.agent_subnet_id)
pulumi.export("rulesetDigest", spoke.ruleset_digest)
