package enforcer

import (
	"io"
	"net"
	"time"
)

// accessDenied is a fatal access_denied alert in a plaintext record (RFC 8446,
// sections 5.1 and 6.2). Every client reports it by that name.
var accessDenied = []byte{21, 3, 3, 0, 2, 2, 49}

const (
	// farewell bounds how long, and farewellBytes how much, a refused client may go
	// on sending before it is cut off.
	farewell      = 2 * time.Second
	farewellBytes = 256 << 10
)

// refuseTLS ends a flow with an alert.
func (f *flow) refuseTLS(v verdict, message string) {
	f.refused(v, message)
	alert(f.client)
}

// alert sends access_denied and closes so that the client gets to read it: closing
// with unread bytes in the socket would send a RST, which overtakes the alert and
// discards it. So what the client still sends is read first, within bounds.
func alert(c *net.TCPConn) {
	_ = c.SetDeadline(time.Now().Add(farewell))
	if _, err := c.Write(accessDenied); err == nil && c.CloseWrite() == nil {
		_, _ = io.CopyN(io.Discard, c, farewellBytes)
	}
	c.Close()
}

// reset ends a connection with a RST: the peer must see a failure, not an end.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	c.Close()
}
