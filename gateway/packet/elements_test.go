package packet

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-dev/bulkhead/gateway/pin"
	"github.com/bulkhead-dev/bulkhead/gateway/policy"
)

// TestTransaction: the kernel makes all of a batch true or nothing of it, and a writer whose
// batch failed writes the next one.
func TestTransaction(t *testing.T) {
	if !namespaced(t) {
		return
	}
	keys := make([]pin.GateKey, 2*elementsPerMessage+1) // more than a message holds
	for i := range keys {
		keys[i] = pin.GateKey{Src: netip.MustParseAddr(addrAgent), Dst: fromUint(uint32(i) + 1<<24), Proto: policy.TCP, Port: 443}
	}
	shared := pin.GateKey{Dst: netip.MustParseAddr(addrPinned), Proto: policy.TCP, Port: 443}
	both := []gateRequest{{keys: keys, ttl: time.Minute}, {keys: []pin.GateKey{shared}, ttl: time.Minute}}
	var w gateWriter
	defer w.close()
	if err := w.commit(both); !errors.Is(err, unix.ENOENT) {
		t.Fatalf("without a table: %v", err)
	}
	cfg, err := labConfig().withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	if err := build(&cfg, labTable()).install(); err != nil {
		t.Fatal(err)
	}
	count := func(set string, want int) {
		t.Helper()
		c, err := dial()
		if err != nil {
			t.Fatal(err)
		}
		s, err := c.GetSetByName(kernelTable(), set)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.GetSetElements(s)
		if err != nil || len(got) != want {
			t.Fatalf("%s holds %d, want %d; %v", set, len(got), want, err)
		}
	}
	if err := w.commit(both); err != nil {
		t.Fatal(err)
	}
	count(setGate, len(keys))
	count(setGateShared, 1)
	if err := w.commit([]gateRequest{{keys: keys[:3], ttl: time.Hour}, {keys: keys[1:2]}, {keys: keys[5:9]}}); err != nil {
		t.Fatal(err)
	}
	count(setGate, len(keys)-5) // the latest word on a key counts

	s, err := openElements()
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	missing := []gateElement{{key: gateKey(keys[1])}}
	s.begin()
	s.add(setGate, []gateElement{{key: gateKey(keys[5]), timeout: time.Minute}})
	s.remove(setGate, missing)
	s.add(setGate, []gateElement{{key: gateKey(keys[6]), timeout: time.Minute}})
	if err := s.commit(); !errors.Is(err, unix.ENOENT) {
		t.Errorf("a batch with one bad element: %v", err)
	}
	count(setGate, len(keys)-5)

	c, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	c.DelTable(kernelTable())
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := w.commit(both); !errors.Is(err, unix.ENOENT) {
			t.Fatalf("without a table again: %v", err)
		}
	}
	if err := build(&cfg, labTable()).install(); err != nil {
		t.Fatal(err)
	}
	if err := w.commit(both[1:]); err != nil {
		t.Error("it does not recover:", err)
	}
}

// TestAcknowledged holds the reading of the kernel's answers to what is an acknowledgement of
// everything.
func TestAcknowledged(t *testing.T) {
	answer := func(kind uint16, seq uint32, code int32) []byte {
		b := binary.NativeEndian.AppendUint32(nil, 36)
		b = binary.NativeEndian.AppendUint16(b, kind)
		b = binary.NativeEndian.AppendUint16(b, 0)
		b = binary.NativeEndian.AppendUint32(b, seq)
		b = binary.NativeEndian.AppendUint32(b, 0)
		b = binary.NativeEndian.AppendUint32(b, uint32(code))
		return append(b, make([]byte, 16)...)
	}
	const last = 7
	ack, failed := answer(unix.NLMSG_ERROR, last, 0), answer(unix.NLMSG_ERROR, 3, -int32(unix.ENOSPC))
	for name, tc := range map[string]struct {
		in   []byte
		done bool
		err  bool
	}{
		"acknowledged":              {ack, true, false},
		"an error":                  {failed, false, true},
		"an error before it":        {append(append([]byte{}, failed...), ack...), false, true},
		"another's":                 {answer(unix.NLMSG_ERROR, 2, 0), false, false},
		"another's before it":       {append(answer(unix.NLMSG_ERROR, 2, 0), ack...), true, false},
		"nothing":                   {nil, false, false},
		"cut in the header":         {ack[:7], false, true},
		"cut in the code":           {ack[:18], false, true},
		"an answer of another kind": {answer(unix.NLMSG_DONE, last, 0), false, true},
		"a length of nothing":       {make([]byte, 36), false, true},
	} {
		done, err := acknowledged(tc.in, last)
		if done != tc.done || (err != nil) != tc.err {
			t.Errorf("%s: %v, %v", name, done, err)
		}
	}
}
