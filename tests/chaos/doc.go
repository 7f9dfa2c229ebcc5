// Package chaos breaks the gateway in every way that its operator will meet, and holds it
// to three promises each time: no packet of a forbidden flow gets out, what was permitted
// is in the audit, and it works again when the fault is over.
//
// Each test builds a lab around the real binary, lets an agent try what is forbidden
// for as long as the fault lasts, and looks at captures on the far side of the
// gateway, taken from the wire. The last lines of the output are the sums.
package chaos
