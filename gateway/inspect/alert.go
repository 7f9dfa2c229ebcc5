package inspect

const recordAlert = 21 // ContentType alert (RFC 8446, section 5.1)

// alertWatch finds an alert in clear among the records that a client sends. A client of TLS
// 1.3 that does not take our certificate has not sent anything under its new keys yet, and OpenSSL
// sends its alert without them; crypto/tls takes that for a forged record.
type alertWatch struct {
	head  [5]byte // type, version, length
	have  int     // bytes of head
	left  int     // of the record's body
	alert [2]byte // level and description of the last alert
	want  int     // bytes of alert that are still to come
}

// watch looks at bytes that were read, which begin where the last ones ended.
func (w *alertWatch) watch(b []byte) {
	for len(b) > 0 {
		if w.left == 0 {
			n := copy(w.head[w.have:], b)
			b, w.have = b[n:], w.have+n
			if w.have < len(w.head) {
				return
			}
			w.have, w.left, w.want = 0, int(w.head[3])<<8|int(w.head[4]), 0
			if w.head[0] == recordAlert && w.left == len(w.alert) {
				w.want = len(w.alert)
			}
			continue
		}
		n := min(w.left, len(b))
		if w.want > 0 {
			w.want -= copy(w.alert[len(w.alert)-w.want:], b[:n])
		}
		b, w.left = b[n:], w.left-n
	}
}

// distrusts reports whether the client has sent an alert that says that it does not take our certificate:
// bad_certificate(42) to certificate_unknown(46), or unknown_ca(48) (RFC 8446, section 6.2).
func (w *alertWatch) distrusts() bool {
	code := w.alert[1]
	return w.want == 0 && (42 <= code && code <= 46 || code == 48)
}
