// Package packet is the gateway's part in the kernel: an nftables program that
// decides every packet as far as addresses alone decide it, and the way that
// what it decided comes back.
//
// # The program
//
// [Table.Load] writes the whole program in one transaction, so no packet ever
// meets half of it. It tells agents by their source address, never by the name of
// an interface: a virtual machine in Azure receives and sends on one NIC, and
// accelerated networking puts a second device beside it. A gateway with two legs
// runs the same program.
//
// A packet from an agent meets, in this order:
//
//	fragments       refused before the kernel would reassemble them
//	anti-spoof      its source must be routed back through where it came from
//	admitted flows  known by the connection mark, so a reload cuts none of them
//	DNS             to any address: rewritten to the gateway's own resolver
//	invariants      what no rule may permit: the gateway, metadata, 853, UDP 443
//	the gate        addresses that the resolver pinned: handed to the enforcer
//	classes         the ruleset's address permits: to the enforcer, or forwarded
//	refusal         TCP RST, else ICMP admin-prohibited, and a message to us
//
// Handing over is TPROXY: the enforcer accepts the connection with the address
// that the agent meant. Forwarded flows never leave the kernel.
//
// # Closed is the resting state
//
// The program is in force before forwarding is turned on, [Table.Close] leaves it
// there, and [Lockdown] loads it with nothing permitted. When the process is gone,
// flows that the kernel forwards go on, no new one begins once the lease has lapsed
// ([Table.Renew]), what needed the enforcer is reset, and DNS is dead.
//
// Behind the program stands a fence of routing rules: packets from agents that the
// program has not marked are routed nowhere, so that somebody who flushes nftables opens
// nothing. [Table.Watch] and [Table.Intact] notice that, and Load and
// [Table.Restore] mend it.
//
// The output chain holds the gateway itself to the same idea: only sockets that
// carry the enforcer's mark reach the agents' destinations, and the rest of the
// machine reaches its resolvers, what the configuration names, and Azure's agent.
//
// # What comes back
//
// [Table.Denials] gives the first refused packet of every (source, destination,
// protocol, port, cause) at once and the count of its repeats later; the kernel
// itself counts, so a flood costs user space nothing. [Table.Flows] gives the beginning
// and the end, with bytes, of every flow that the kernel forwarded. [Table.Sweep]
// ends forwarded flows that a new ruleset no longer permits.
package packet
