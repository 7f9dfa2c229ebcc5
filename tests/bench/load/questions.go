package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/ipv4"
)

const (
	askers = 4  // sockets
	window = 25 // questions that a socket has open at once
	// lost is for how long a socket waits for any answer before what is open counts as
	// failed.
	lost = time.Second
)

// questions is a DNS load that several sockets share.
type questions struct {
	*Questions
	next    atomic.Int64
	sources [][]byte // control messages, one per source
	below   []byte   // in wire form
}

// ask sends questions from many sources over few sockets, each with a bounded number
// of questions in flight. The kernel takes the source of a datagram from a control
// message (IP_PKTINFO, see ip(7)), so sources cost no sockets.
func ask(job *Job) (Result, error) {
	if job.Questions == nil || job.Questions.Sources < 1 || job.Questions.Each < 1 {
		return Result{}, errors.New("questions need sources, and how many in a row each asks")
	}
	q := &questions{Questions: job.Questions, below: packName(job.Questions.Below)}
	for a := q.Base; len(q.sources) < q.Sources; a = a.Next() {
		q.sources = append(q.sources, (&ipv4.ControlMessage{Src: a.AsSlice()}).Marshal())
	}
	start := time.Now()
	tallies := make([]tally, askers)
	var wg sync.WaitGroup
	for i := range tallies {
		wg.Go(func() {
			if err := q.run(job, &tallies[i], start.Add(job.Duration)); err != nil {
				tallies[i].fail(err)
			}
		})
	}
	wg.Wait()
	return summarize(tallies, time.Since(start)), nil
}

// label is the first label of name n.
func (q *Questions) label(n int) []byte {
	buf := make([]byte, 0, 63)
	if q.Names > 0 {
		return strconv.AppendInt(append(buf, "often-"...), int64(n%q.Names), 16)
	}
	return strconv.AppendInt(append(append(buf, q.Tag...), '-'), int64(n), 16)
}

// source is the number of the source that asks for name n.
func (q *Questions) source(n int) int { return n / q.Each % q.Sources }

// write puts question n into m.
func (q *questions) write(m *ipv4.Message, id uint16, n int) {
	label := q.label(n)
	b := append(m.Buffers[0][:0], byte(id>>8), byte(id), 1, 0, 0, 1, 0, 0, 0, 0, 0, 0) // recursion desired, one question
	b = append(append(append(b, byte(len(label))), label...), q.below...)
	m.Buffers[0] = append(b, 0, byte(dns.TypeA), 0, byte(dns.ClassINET))
	m.OOB = q.sources[q.source(n)]
}

// run keeps one socket's window full until end, then waits for what is open.
func (q *questions) run(job *Job, t *tally, end time.Time) error {
	conn, err := net.ListenPacket("udp4", ":0")
	if err != nil {
		return err
	}
	defer conn.Close()
	pc := ipv4.NewPacketConn(conn)
	out, in := buffers(window), buffers(window)
	for i := range out {
		out[i].Addr = net.UDPAddrFromAddrPort(job.Resolver)
	}
	sent := map[uint16]time.Time{}
	var id uint16
	for {
		now, fresh := time.Now(), 0
		for ; len(sent) < window && now.Before(end); fresh++ {
			n := int(q.next.Add(1) - 1)
			if q.Limit > 0 && n >= q.Limit {
				break
			}
			id++
			q.write(&out[fresh], id, n)
			sent[id] = now
		}
		for done := 0; done < fresh; {
			k, err := pc.WriteBatch(out[done:fresh], 0)
			if err != nil {
				return err
			}
			done += k
		}
		if len(sent) == 0 {
			return nil
		}
		if err := conn.SetReadDeadline(now.Add(lost)); err != nil {
			return err
		}
		n, err := pc.ReadBatch(in, 0)
		if isTimeout(err) {
			for range sent {
				t.fail(fmt.Errorf("no answer within %s", lost))
			}
			clear(sent)
			continue
		}
		if err != nil {
			return err
		}
		for _, m := range in[:n] {
			t.note(sent, m.Buffers[0][:m.N])
		}
	}
}

// note takes an answer off what is open.
func (t *tally) note(sent map[uint16]time.Time, msg []byte) {
	if len(msg) < headerSize {
		return
	}
	id := binary.BigEndian.Uint16(msg)
	at, open := sent[id]
	if !open {
		return // given up before
	}
	delete(sent, id)
	rcode, answers := int(msg[3]&0xf), binary.BigEndian.Uint16(msg[6:])
	if rcode != dns.RcodeSuccess || answers == 0 {
		t.fail(fmt.Errorf("%s with %d answers", dns.RcodeToString[rcode], answers))
		return
	}
	t.took = append(t.took, time.Since(at))
}
