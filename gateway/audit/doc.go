// Package audit writes down every decision of the gateway, so that what happened
// can be shown and cannot be changed unseen.
//
// The data plane hands a [Record] to a [Recorder]. The [Log] turns it into an
// [Event] of the Open Cybersecurity Schema Framework (OCSF 1.6), counts repeated
// denials and questions instead of repeating them, links the event to the one before by its hash
// and appends it to a file. [Verify] reads files back and says whether anything was
// removed, added or altered. The README beside this file is the format.
//
// # What Record promises
//
// Record returns nil once the event's line has been handed to the operating system:
// a crash or kill of the gateway loses nothing that it acknowledged. The disk is told to keep it
// (fdatasync) within 200 ms, at rotation and at [Log.Close]; so a loss of
// power can cost the events of the last 200 ms, and the log says on the next start
// whether it is shorter than it was last known to be. A repeat of a denial, or of a
// permitted question that pinned nothing new, is acknowledged when it has been counted; a crash can
// cost the counts of one window, never the first event. While the log is in trouble a permit is not
// only counted.
//
// Record returns an error when the line could not be written: the disk is full,
// fails, or has not answered within [Options.Patience]. Whoever asked must then refuse what
// it was about to permit. After an error the event may still be found in the log, if
// the disk took it late; what was permitted is never missing from it.
//
// [Log.Submit] promises the same to a caller that does not wait: it hears through a function, once,
// from the goroutine that writes. What one goroutine submits is written in that order.
//
// What has happened already cannot be refused: the end of a flow, a flow that the kernel
// forwarded. Beside the log lies a file of reserved space (`….reserve`). When the disk
// is full it is given up: permits are refused with [ErrFull] from the first write that
// failed, ends go into what was reserved, denials are counted in memory, and the log says
// in itself that it is full and when it no longer is. Ends that the disk does not take
// even so wait in memory, and are written once when it does.
//
// One source cannot take the log from the others: it may write a quarter, in a day, of what
// the disk has left, and have 128 events in the queue; those behind them come
// after the others', and are refused from 8,192 on. Beyond that its permits are refused
// with [ErrQuota], and its denials and kernel-forwarded flows are counted together.
//
// # Who can be believed
//
// A hash chain shows an edit, a removal or an insertion to whoever holds any later hash. It
// does not stop somebody who may write the whole file from computing a new chain.
// That is what the signatures are for: every file begins with a checkpoint, there is one an
// hour and one at the end, and the file `….head` beside the live log holds a signed statement
// of the last event that the disk took. The key stays in the gateway's
// state directory; note its fingerprint ([Log.Fingerprint]) elsewhere and give it to
// [VerifyTrusting]. Somebody who is root on the gateway holds the key, so send events
// off the machine if that is in the threat model.
package audit
