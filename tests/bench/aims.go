package main

import (
	"fmt"
	"math"
)

// aim is one thing that the gateway wants to be as good at as the best.
type aim struct {
	what   string
	cell   cell
	value  func(Sample) float64
	unit   string
	digits int
	less   bool // less is better
	peers  []string
	share  float64 // of the peer's figure that is enough; 1: as good
}

var splicers = []string{haproxy, nginx, squid}

var aims = []aim{
	{"CPU per TLS connection: no more than the best peer", tlsLoad, cpu, "µs", 0, true, splicers, 1},
	{"CPU per raw connection: no more than the best peer", rawLoad, cpu, "µs", 0, true, splicers, 1},
	{"new TLS connections: as many as the best peer", tlsLoad, ratio, "× direct", 2, false, splicers, 1},
	{"new raw connections: as many as the best peer", rawLoad, ratio, "× direct", 2, false, splicers, 1},
	{"p99 of a TLS connection, 16 at once: as short as the best peer's", tlsLoad, p99, "ms", 1, true, splicers, 1},
	{"p99 of a TLS connection, alone: as short as the best peer's", tlsAlone, p99, "ms", 2, true, splicers, 1},
	{"bulk on 1 connection: as much as HAProxy", bulkOne, ratio, "× direct", 2, false, []string{haproxy}, 1},
	{"bulk on 8 connections: as much as HAProxy", bulkEight, ratio, "× direct", 2, false, []string{haproxy}, 1},
	{"known names: 0.95 of stock CoreDNS", dnsHit, ratio, "× direct", 2, false, []string{stockDNS}, 0.95},
	{"new names: 0.95 of stock CoreDNS", dnsMiss, ratio, "× direct", 2, false, []string{stockDNS}, 0.95},
}

// Aims is the table of what was aimed at and what came of it.
func (r *Report) Aims() string {
	rows := [][]string{{"aim", "bulkhead", "compared with", "result"}}
	rows = append(rows, r.aims(bulkhead, aims)...)
	for _, f := range []struct {
		what string
		cell cell
	}{
		{"permit by address, new connections: 0.97 of forwarding", forwardLoad},
		{"permit by address, 1 connection: 0.97 of forwarding", forwardOne},
		{"permit by address, 8 connections: 0.97 of forwarding", forwardEight},
	} {
		ours, theirs := pick(r.Samples, byAddress, f.cell, ratio), pick(r.Samples, masquerade, f.cell, ratio)
		rows = append(rows, []string{f.what, ours.text(2) + " × direct", masquerade + ": " + theirs.text(2) + " × direct",
			met(ours.median >= 0.97, ours.median) + of(ours, theirs)})
	}
	if len(r.Idle) > 0 {
		bytes, fds := r.Idle[0].each()
		rows = append(rows, []string{"an idle connection: at most 3 KB", fmt.Sprintf("%.1f KB", bytes/1e3), "–", met(bytes <= 3000, bytes/3000)},
			[]string{"an idle connection: at most 2 descriptors", fmt.Sprintf("%.1f", fds), "–", met(fds <= 2.05, fds/2)})
	}
	rows = append(rows, r.aims(decrypting, decryptingAims)...)
	rows = append(rows, r.idleAim()...)
	return table(append(rows, r.aims(manyURLs, urlAims)...))
}

// aims are the rows of what a path is to be as good at as the best peer.
func (r *Report) aims(path string, aims []aim) (rows [][]string) {
	for _, a := range aims {
		ours := pick(r.Samples, path, a.cell, a.value)
		peer, theirs := best(r.Samples, a)
		rows = append(rows, []string{a.what, ours.text(a.digits) + " " + a.unit, beside(peer, theirs, a), a.verdict(ours, theirs)})
	}
	return rows
}

func beside(peer string, theirs spread, a aim) string {
	if peer == "" {
		return "–"
	}
	return fmt.Sprintf("%s: %s %s", peer, theirs.text(a.digits), a.unit)
}

func of(ours, theirs spread) string {
	if ours.n == 0 || theirs.n == 0 {
		return ""
	}
	return fmt.Sprintf("; %.2f of %s", ours.median/theirs.median, masquerade)
}

// best is the peer that an aim is about: the one with the best median.
func best(samples []Sample, a aim) (name string, s spread) {
	for _, peer := range a.peers {
		v := pick(samples, peer, a.cell, a.value)
		if v.n > 0 && (name == "" || a.less == (v.median < s.median)) {
			name, s = peer, v
		}
	}
	return name, s
}

// verdict compares medians, and says so where the ranges of the two overlap.
func (a aim) verdict(ours, theirs spread) string {
	if ours.n == 0 || theirs.n == 0 {
		return "not measured"
	}
	factor := ours.median / theirs.median
	good := factor >= a.share
	if a.less {
		good = factor <= a.share
	}
	text := met(good, factor)
	if ours.n > 1 && ours.overlaps(theirs) {
		text += "; the ranges overlap"
	}
	return text
}

func met(good bool, factor float64) string {
	if math.IsNaN(factor) || math.IsInf(factor, 0) {
		return "not measured"
	}
	if good {
		return fmt.Sprintf("met (%.2f)", factor)
	}
	return fmt.Sprintf("**not met** (%.2f)", factor)
}
