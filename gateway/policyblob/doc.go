// Package policyblob is how a gateway and those who deploy it meet: in two blobs of an
// Azure storage account. The gateway reads the ruleset from one and writes into the
// other which ruleset it enforces. Both go by the machine's managed identity; there is no key
// and no signed URL that somebody could take along.
//
// # Reading
//
// [Source] asks for the blob under the condition that it has changed (If-None-Match, RFC 9110,
// section 13.1.2), so that asking often costs next to nothing. What it finds is a candidate;
// whether it is a good ruleset is for others to say, who then call [Source.Accept]. What was accepted
// is kept on disk, so that a restart needs no storage account to go on as before.
//
// # Rollback
//
// Who may write the blob may also write an old ruleset there, by mistake or to open
// again what was closed since. The publisher numbers what it publishes in the blob's metadata
// (x-ms-meta-serial), and a Source refuses a number below the last accepted one, another document under
// the same number, and a document without a number after one with. There is no exception:
// who wants the old ruleset back publishes it again, under the next number. Only a gateway that has
// accepted nothing yet takes what it finds.
//
// # Writing
//
// [Reporter] overwrites its blob as a whole. Nobody reads it on the way of a packet: where it cannot be
// written, agents go on as before and the deployer waits.
package policyblob
