// Package relay passes bytes between two TCP connections at a cost that an idle pair
// does not feel: two descriptors and a few hundred bytes, no goroutine, no buffer and
// no pipe while nothing moves.
//
// An [Engine] runs one loop per CPU, each around an edge-triggered epoll (epoll(7)). A
// pair belongs to one loop for life, and only that loop touches its sockets, so nothing
// in the way of a byte takes a lock. [Engine.Join] detaches the sockets from Go's own
// poller, which would otherwise wake a thread for each packet, too.
//
// Each direction is a small state machine. What it has moved decides how it moves more:
//
//   - at first through the loop's one buffer. Bytes are peeked, written, and only
//     then taken from the source, so what the destination does not accept stays in the
//     kernel, counted against the source's receive window. A slow reader
//     binds no memory of this process.
//   - past copyBytes, with splice(2) through a pipe that the direction borrows while
//     bytes flow and gives back, empty, when the source has no more. A loop lends no
//     more than maxPipes; a direction that gets none copies.
//
// Urgent data (RFC 9293, section 3.8.5) is passed on without its urgent byte, as sockets do that have not
// asked for it. A read stops before that byte, and splice does not get past it: a direction in which there was
// one is copied, until the source says that it is empty.
//
// A FIN is passed on as a FIN, so half-closed connections work, and a RST as a RST. One
// turn of a pair is bounded in bytes, so a fast one cannot starve the others.
package relay
