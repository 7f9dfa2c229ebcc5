package inspect

import "testing"

// TestAlertWatch finds alerts in clear, however their bytes arrive, and in no other record.
func TestAlertWatch(t *testing.T) {
	const hello, ccs = "\x16\x03\x01\x00\x03\x01\x15\x30", "\x14\x03\x03\x00\x01\x01"
	for sent, want := range map[string]bool{
		"":    false,
		hello: false,
		hello + ccs + "\x15\x03\x03\x00\x02\x02\x30": true,  // unknown_ca
		hello + "\x15\x03\x03\x00\x02\x02\x2a":       true,  // bad_certificate
		hello + "\x15\x03\x03\x00\x02\x02\x28":       false, // handshake_failure
		hello + "\x15\x03\x03\x00\x02\x02":           false, // cut off
		hello + "\x15\x03\x03\x00\x03\x02\x30\x30":   false, // encrypted, in TLS 1.2
		hello + "\x17\x03\x03\x00\x02\x02\x30":       false, // no alert
	} {
		for size := 1; size <= len(sent)+1; size++ {
			var w alertWatch
			for at := 0; at < len(sent); at += size {
				w.watch([]byte(sent[at:min(at+size, len(sent))]))
			}
			if got := w.distrusts(); got != want {
				t.Errorf("%q in pieces of %d: %v", sent, size, got)
			}
		}
	}
}

// FuzzAlertWatch holds that an alert is found whatever pieces the records come in, and that no
// bytes break the watch.
func FuzzAlertWatch(f *testing.F) {
	f.Add([]byte{21, 3, 3, 0, 2, 2, 48}, uint8(1))
	f.Add([]byte{22, 3, 1, 0, 3, 1, 2, 3, 21, 3, 3, 0, 2, 1, 46, 20, 3, 3, 0, 1, 1}, uint8(4))
	f.Add([]byte{21, 3, 3, 0xff, 0xff, 2}, uint8(0))
	f.Fuzz(func(t *testing.T, data []byte, piece uint8) {
		var whole, pieced alertWatch
		whole.watch(data)
		for rest := data; len(rest) > 0; {
			n := min(int(piece)+1, len(rest))
			pieced.watch(rest[:n])
			rest = rest[n:]
		}
		if whole != pieced {
			t.Fatalf("%+v in one piece, %+v in several", whole, pieced)
		}
	})
}
