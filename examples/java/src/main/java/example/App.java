package example;

import com.pulumi.Pulumi;
import dev.bulkhead.bulkhead.FoundrySpoke;
import dev.bulkhead.bulkhead.FoundrySpokeArgs;

public class App {
    public static void main(String[] args) {
        Pulumi.run(ctx -> {
            var config = ctx.config();
            var spoke = new FoundrySpoke("spoke", FoundrySpokeArgs.builder()
                .location(config.get("location").orElse("eastus2"))
                .bundleFile(config.require("bundleFile"))
                .addressSpace("10.20.0.0/16")
                .agentPrefix("10.20.1.0/24")
                .toolCalls("api.github.com")
                .deployerAddresses("203.0.113.10") // where you deploy from, as Azure sees it
                .build());
            ctx.export("agentSubnetId", spoke.agentSubnetId());
            ctx.export("rulesetDigest", spoke.rulesetDigest());
        });
    }
}
