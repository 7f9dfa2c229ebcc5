package main

import "fmt"

var interceptors = decrypters[1:] // the peers

// decryptingAims are to be first in each, beside what also ends TLS.
var decryptingAims = []aim{
	{"handshakes with a new name: first", freshNames, ratio, "× direct", 2, false, interceptors, 1},
	{"handshakes with a known name: first", cachedNames, ratio, "× direct", 2, false, interceptors, 1},
	{"requests on 16 connections: first", requestsMany, ratio, "× direct", 2, false, interceptors, 1},
	{"p99 of a request on 16 connections: first", requestsMany, p99, "ms", 2, true, interceptors, 1},
	{"requests on 1 connection: first", requestsOne, ratio, "× direct", 2, false, interceptors, 1},
	{"p99 of a request on 1 connection: first", requestsOne, p99, "ms", 2, true, interceptors, 1},
	{"requests over HTTP/2 on 16 connections: first", streamsMany, ratio, "× direct", 2, false, interceptors, 1},
	{"decrypted bulk on 1 connection: first", downloadOne, ratio, "× direct", 2, false, interceptors, 1},
	{"decrypted bulk on 8 connections: first", downloadEight, ratio, "× direct", 2, false, interceptors, 1},
}

var urlAims = []aim{{"requests with 1,000 URL rules: 0.95 of those with one", requestsURLs, ratio, "× one rule", 2, false, []string{decrypting}, 0.95}}

// idleAim is the row of what a decrypted connection that does nothing occupies.
func (r *Report) idleAim() [][]string {
	var ours, least float64
	var peer string
	for _, i := range r.IdleDecrypting {
		switch bytes, _ := i.each(); {
		case i.Path == decrypting:
			ours = bytes
		case peer == "" || bytes < least:
			peer, least = i.Path, bytes
		}
	}
	if ours == 0 || peer == "" {
		return nil
	}
	return [][]string{{"an idle decrypted connection: first", fmt.Sprintf("%.1f KB", ours/1e3), fmt.Sprintf("%s: %.1f KB", peer, least/1e3), met(ours <= least, ours/least)}}
}

// Handshakes is the table of decrypted connections.
func (r *Report) Handshakes() string {
	rows := [][]string{{"path", "new names/s", "× direct", "p99 ms", "CPU µs", "known name/s", "× direct", "p99 ms", "CPU µs"}}
	for _, p := range append([]string{direct}, decrypters...) {
		var row []string
		for _, c := range []cell{freshNames, cachedNames} {
			row = append(row, r.rate(p, c, 0), r.ratio(p, c), r.of(p, c, p99, 1), r.cpu(p, c, 0))
		}
		rows = append(rows, append([]string{p}, row...))
	}
	return table(rows)
}

// Requests is the table of decrypted requests over HTTP/1.1.
func (r *Report) Requests() string { return r.requests(decrypters, requestsMany, requestsOne) }

// Streams is the same over HTTP/2.
func (r *Report) Streams() string { return r.requests(withHTTP2, streamsMany, streamsOne) }

func (r *Report) requests(paths []string, many, one cell) string {
	rows := [][]string{{"path", "16 conn, requests/s", "× direct", "p50 ms", "p99 ms", "CPU µs/request", "1 conn, requests/s", "× direct", "p50 ms", "p99 ms", "CPU µs/request"}}
	for _, p := range append([]string{direct}, paths...) {
		row := []string{p}
		for _, c := range []cell{many, one} {
			row = append(row, r.rate(p, c, 0), r.ratio(p, c), r.of(p, c, p50, 2), r.of(p, c, p99, 2), r.cpu(p, c, 0))
		}
		rows = append(rows, row)
	}
	return table(rows)
}

// Downloads is the table of decrypted bytes.
func (r *Report) Downloads() string { return r.bulk(decrypters, downloadOne, downloadEight) }

// URLRules is the table of how the number of rules matters.
func (r *Report) URLRules() string {
	rows := [][]string{{"rules", "requests/s", "× one rule", "p99 ms", "CPU µs/request"}}
	for _, p := range []struct{ name, path string }{{"1", decrypting}, {"1,000", manyURLs}} {
		c := requestsURLs
		rows = append(rows, []string{p.name, r.rate(p.path, c, 0), r.ratio(p.path, c), r.of(p.path, c, p99, 2), r.cpu(p.path, c, 0)})
	}
	return table(rows)
}

// IdleDecryptingTable is the table of decrypted connections that do nothing.
func (r *Report) IdleDecryptingTable() string { return idleTable(idleDecrypting, r.IdleDecrypting) }
