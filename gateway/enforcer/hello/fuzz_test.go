package hello

import (
	"bytes"
	"crypto/tls"
	"errors"
	"testing"
)

var errSeen = errors.New("seen")

// cryptoTLS is the SNI that a crypto/tls server acts on, if it accepts the hello.
func cryptoTLS(raw []byte) (name string, ok bool) {
	cfg := &tls.Config{GetConfigForClient: func(chi *tls.ClientHelloInfo) (*tls.Config, error) {
		name, ok = chi.ServerName, true
		return nil, errSeen
	}}
	_ = tls.Server(&memConn{in: bytes.NewReader(raw)}, cfg).Handshake()
	return name, ok
}

// stricter are the refusals that crypto/tls does not share.
var stricter = map[error]bool{
	ErrTooLong:    true, // we count record headers
	ErrRecordType: true, ErrTrailing: true, ErrRecordVersion: true,
	ErrNameType: true, ErrNameNUL: true, ErrInnerHello: true,
}

// FuzzHello holds that no server reads another name than the gateway did, whatever
// the bytes and however they are cut.
func FuzzHello(f *testing.F) {
	for _, raw := range seeds(f) {
		f.Add(raw, uint16(len(raw)))
		f.Add(raw, uint16(1))
		f.Add(records(raw[recordHeader:], 100), uint16(7))
	}
	f.Add(records(message(sni(0, "a.example", "b.example")), maxRecord), uint16(100))
	f.Add(records(message(sni(1, "a.example"), ext(extECH, 0)), maxRecord), uint16(100))
	f.Add(append(records(message(sni(0, "a.example")), 3), 23, 3, 3, 0, 1, 0), uint16(2))
	f.Fuzz(func(t *testing.T, raw []byte, step uint16) {
		info, done, err := scan(raw, max(int(step), 1))
		whole, wholeDone, wholeErr := scan(raw, len(raw)+1)
		if info != whole || done != wholeDone || !errors.Is(err, wholeErr) {
			t.Fatalf("in pieces: %+v %v %v; at once: %+v %v %v", info, done, err, whole, wholeDone, wholeErr)
		}
		if err != nil && (done || info != Info{}) {
			t.Fatalf("an error with a result: %+v %v %v", info, done, err)
		}
		name, ok := cryptoTLS(raw)
		switch {
		case done && ok && name != info.Name:
			t.Fatalf("crypto/tls reads %q, we read %q", name, info.Name)
		case ok && !done && !stricter[err]:
			t.Fatalf("crypto/tls accepts (name %q), we say done=%v err=%v", name, done, err)
		}
	})
}
