// Network containment for AI agents: a Foundry spoke whose agents have one way out, through a gateway that enforces one ordered ruleset.
package bulkhead
