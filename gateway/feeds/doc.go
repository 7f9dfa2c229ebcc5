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
// Nothing is fetched over the network here; the files are put in place by
// whoever runs the gateway. The bounds: 64 MiB and two million entries in a
// file, 4 KiB in a line.
package feeds
