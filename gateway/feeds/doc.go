// Package feeds reads what a ruleset needs from outside: the addresses behind
// Azure's service tags, and lists of known-bad addresses and names.
//
// [ServiceTags] reads the file that Microsoft publishes each week. [Parse] reads a
// threat feed in one of three formats:
//
//   - domains: a name on each line; `*.example.com` and `.example.com` are example.com,
//     since a threat group matches a name and everything below it
//   - hosts: the format of /etc/hosts, an address and names; the address is ignored
//   - netset: an address, a prefix or a range `a-b` on each line
//
// Comments begin with `#` or `;` at the start of a line or after a space. [Load] finds
// and reads everything that one ruleset names.
//
// # What is refused
//
// A feed comes from somebody else, and what it says is cut. So nothing in it may cut
// the platform: special-purpose addresses, prefixes wider than /8 and public suffixes
// such as co.uk are left out and counted. A feed of which more than a tenth cannot be read,
// that is an HTML page (an error page served with status 200), holds nothing or
// is longer than the bounds below is refused as a whole: the data in force stays.
//
// The bounds: 64 MiB and two million entries in a file, 4 KiB in a line, an eighth of all IPv4 addresses, two
// minutes for a fetch.
//
// # Where it comes from
//
// A [Fetcher] asks a feed's URL: over HTTPS, on its port, from addresses on the Internet alone, so that whoever answers for the name
// cannot have something within the network asked; a redirect may stay with the host and nothing else. The question is conditional
// (If-None-Match, If-Modified-Since; RFC 9110, section 13.1). What is good is kept as one file, NAME.fetched, whose first line says where it
// is from; so a restart while the server is away begins with it. A [Discovery] asks Azure for its service tags likewise. A [Keeper] does
// both again and again, and later and later while it fails.
//
// Data that is old stays: a list of what is dangerous is no less so for being old, and Azure's addresses are used for a week at least. What
// shrank by more than half or grew tenfold is refused until the data that is kept is a week old. Where a file for a feed was put into the
// directory by somebody, that is used and nothing is fetched.
//
// # No data yet
//
// A feed or tag that has never been read matches nothing: a permit by it permits nothing, and a deny by it denies nothing, which
// [policy.Ruleset.Missing] and readiness say. What such a deny was to refuse is then refused by the rules below it, or permitted by them: the default
// ruleset permits names and nothing by address alone, so a feed narrows what those names may lead to.
package feeds
