package load

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"

	"github.com/miekg/dns"
	"golang.org/x/net/ipv4"
)

// batch is how many datagrams one system call takes, so that the upstream is not what a
// resolver's benchmark measures.
const batch = 64

// answerTTL is long enough that a name stays cached for a whole run.
const answerTTL = 3600

// serveNames answers questions at the name server's address of an origin until ctx
// ends: the services and the names below them with their addresses, any other name with one made from it.
func serveNames(ctx context.Context, origin netip.Prefix) error {
	conn, err := net.ListenPacket("udp4", Nameserver(origin).String())
	if err != nil {
		return fmt.Errorf("name server: %w", err)
	}
	context.AfterFunc(ctx, func() { conn.Close() })
	known := map[string][]netip.Addr{}
	for name := range services {
		known[string(packName(name))] = Addrs(origin, name)
	}
	go func() {
		pc := ipv4.NewPacketConn(conn)
		msgs := buffers(batch)
		for {
			n, err := pc.ReadBatch(msgs, 0)
			if err != nil {
				return
			}
			kept := 0
			for i := range n {
				m := &msgs[i]
				reply := answerQuestion(m.Buffers[0][:cap(m.Buffers[0])], m.N, known)
				if reply == nil {
					continue
				}
				m.Buffers[0] = reply
				msgs[kept], msgs[i] = msgs[i], msgs[kept]
				kept++
			}
			for sent := 0; sent < kept; {
				k, err := pc.WriteBatch(msgs[sent:kept], 0)
				if err != nil {
					break // the asker is gone
				}
				sent += k
			}
			for i := range msgs {
				msgs[i].Buffers[0] = msgs[i].Buffers[0][:cap(msgs[i].Buffers[0])]
			}
		}
	}()
	return nil
}

func buffers(n int) []ipv4.Message {
	msgs := make([]ipv4.Message, n)
	for i := range msgs {
		msgs[i].Buffers = [][]byte{make([]byte, 1500)}
	}
	return msgs
}

const (
	headerSize = 12 // RFC 1035 §4.1.1
	fixedSize  = 4  // type and class of a question
)

// answerQuestion turns the question in buf[:n] into its answer, in place. Nil is for
// what is not a question.
func answerQuestion(buf []byte, n int, known map[string][]netip.Addr) []byte {
	name, ok := questionName(buf[:n])
	if !ok {
		return nil
	}
	end := headerSize + len(name) + fixedSize
	addrs := known[string(name)]
	if addrs == nil {
		addrs = known[string(name[1+int(name[0]):])] // below a service's name
	}
	if addrs == nil {
		addrs = []netip.Addr{madeUp(name)}
	}
	if binary.BigEndian.Uint16(buf[headerSize+len(name):]) != dns.TypeA {
		addrs = nil
	}
	buf[2], buf[3] = 0x84|buf[2]&1, 0x80 // response, authoritative; recursion available
	binary.BigEndian.PutUint16(buf[6:], uint16(len(addrs)))
	binary.BigEndian.PutUint32(buf[8:], 0)
	out := buf[:end]
	for _, a := range addrs {
		out = append(out, 0xc0, headerSize, 0, 1, 0, 1) // the question's name, A, IN
		out = binary.BigEndian.AppendUint32(out, answerTTL)
		ip := a.As4()
		out = append(out, 0, 4, ip[0], ip[1], ip[2], ip[3])
	}
	return out
}

// questionName returns the name of a message with one question, in wire form.
func questionName(msg []byte) ([]byte, bool) {
	if len(msg) < headerSize || msg[2]&0x80 != 0 || binary.BigEndian.Uint16(msg[4:]) != 1 {
		return nil, false
	}
	for i := headerSize; i < len(msg); i += 1 + int(msg[i]) {
		switch {
		case msg[i] > 63:
			return nil, false
		case msg[i] == 0:
			return msg[headerSize : i+1], i+1+fixedSize <= len(msg)
		}
	}
	return nil, false
}

// madeUp is an address in 64.0.0.0/8 for a name: a resolver that pins each address has
// as many to pin as there are names.
func madeUp(name []byte) netip.Addr {
	h := fnv.New32a()
	h.Write(name)
	sum := h.Sum32()
	return netip.AddrFrom4([4]byte{64, byte(sum >> 16), byte(sum >> 8), byte(sum)})
}

// packName returns a name in wire form. Names of the benchmark fit.
func packName(name string) []byte {
	buf := make([]byte, 255)
	n, err := dns.PackDomainName(dns.Fqdn(name), buf, 0, nil, false)
	if err != nil {
		panic(err) // a constant of this package is no name
	}
	return buf[:n]
}
