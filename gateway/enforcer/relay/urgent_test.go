package relay

import (
	"bytes"
	"io"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// urge sends a byte of urgent data.
func urge(t *testing.T, c *net.TCPConn) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var sent error
	if err := raw.Control(func(fd uintptr) { sent = unix.Sendto(int(fd), []byte("!"), unix.MSG_OOB, nil) }); err != nil || sent != nil {
		t.Fatal(err, sent)
	}
}

// TestUrgentData has a peer send urgent data, at which a read stops short of what lies behind it, and
// splice does not go on. The last urgent byte is for nobody; those before it are like any other,
// once there is another (RFC 6093, section 3.2). All others must arrive.
func TestUrgentData(t *testing.T) {
	t.Run("before the relay looks", func(t *testing.T) {
		l := newLab(t)
		client, in := l.connect(t)
		out, server := l.connect(t)
		io.WriteString(client, "before ")
		urge(t, client)
		io.WriteString(client, "behind")
		if _, err := l.Join(in, out, nil, func(n Totals) { l.ended <- n }); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len("before behind"))
		if _, err := io.ReadFull(server, got); err != nil || string(got) != "before behind" {
			t.Fatalf("%q, %v", got, err)
		}
		client.Close()
		server.Close()
		l.wait(t)
	})
	for _, size := range []int{1000, 3 * copyBytes} {
		t.Run("amid a stream", func(t *testing.T) {
			l := newLab(t)
			client, server, _ := l.join(t)
			part := bytes.ReplaceAll(random(size, 1), []byte("!"), []byte("?"))
			go func() {
				for range 20 {
					client.Write(part)
					urge(t, client)
				}
				client.CloseWrite()
			}()
			got, err := io.ReadAll(server)
			got = bytes.ReplaceAll(got, []byte("!"), nil)
			if err != nil || !bytes.Equal(got, bytes.Repeat(part, 20)) {
				t.Fatalf("%d bytes of %d, %v", len(got), 20*size, err)
			}
			server.Close()
			l.wait(t)
		})
	}
}
