package main

import (
	_ "embed"
	"fmt"
	"strings"
	"text/template"
	"time"
)

// Report is everything that was measured in one run.
type Report struct {
	Options          options
	Machine          Machine
	Took             time.Duration
	Samples          []Sample
	Idle             []Idle
	IdleDecrypting   []Idle
	Live, LiveLost   int       // flows open during the reloads, and how many were dead after them
	LiveWhy          string    // why not as many as were wanted
	Reload, NoReload []float64 // longest time of a new connection, milliseconds
	ReloadErrors     int       // new connections that failed while a ruleset was replaced
	Restart          []float64 // from start to first connection, milliseconds
}

// Machine says where the figures come from.
type Machine struct {
	Kernel, Go, Cores, Memory, Commit string
	Peers                             []string // name and version
}

// Idle is what a path's program occupies, by the number of connections.
type Idle struct {
	Path string
	At   []Held
}

// Held is what N open connections occupy, the program itself included.
type Held struct {
	N   int
	PSS int64 // bytes
	FDs int
}

// each is what one connection occupies: bytes and descriptors.
func (i Idle) each() (bytes, fds float64) {
	first, last := i.At[0], i.At[len(i.At)-1]
	n := float64(last.N - first.N)
	return float64(last.PSS-first.PSS) / n, float64(last.FDs-first.FDs) / n
}

func (i Idle) row() string {
	var mb []string
	for _, h := range i.At {
		mb = append(mb, fmt.Sprintf("%.1f", float64(h.PSS)/1e6))
	}
	bytes, fds := i.each()
	return fmt.Sprintf("| %s | %s | %.1f | %.1f |", i.Path, strings.Join(mb, " / "), bytes/1e3, fds)
}

//go:embed report.md.tmpl
var reportTemplate string

// markdown writes the report.
func (r *Report) markdown() (string, error) {
	t, err := template.New("report").Funcs(template.FuncMap{
		"haproxyConfig":    func() string { return haproxyConfig },
		"nginxConfig":      func() string { return nginxConfig },
		"squidConfig":      func() string { return squidConfig },
		"squidBumpConfig":  func() string { return squidBumpConfig },
		"mitmproxyOptions": func() string { return strings.Join(mitmproxyOptions, " ") },
		"sslsplitOptions":  func() string { return strings.Join(sslsplitOptions, " ") },
		"corefile":         func() string { return corefile },
		"code":             code,
		"join":             strings.Join,
	}).Parse(reportTemplate)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	err = t.Execute(&b, r)
	return b.String(), err
}

// code indents text, so that Markdown prints it as it is.
func code(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	for i, l := range lines {
		if l != "" {
			lines[i] = "    " + l
		}
	}
	return strings.Join(lines, "\n")
}

// table writes rows of cells; the first row is the head.
func table(rows [][]string) string {
	var b strings.Builder
	for i, row := range rows {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			b.WriteString(strings.Repeat("|---", len(row)) + "|\n")
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// Connections is the table of new connections by name.
func (r *Report) Connections() string {
	rows := [][]string{{"path", "TLS conn/s", "× direct", "p99 ms, 16 at once", "p50 ms, alone", "p99 ms, alone", "raw conn/s", "× direct", "CPU µs/conn, TLS", "CPU µs/conn, raw"}}
	for _, p := range append([]string{direct}, byName...) {
		row := []string{p, r.rate(p, tlsLoad, 0), r.ratio(p, tlsLoad), r.of(p, tlsLoad, p99, 1), r.of(p, tlsAlone, p50, 2), r.of(p, tlsAlone, p99, 2),
			r.rate(p, rawLoad, 0), r.ratio(p, rawLoad), r.cpu(p, tlsLoad, 0), r.cpu(p, rawLoad, 0)}
		rows = append(rows, row)
	}
	return table(rows)
}

// Bulk is the table of bytes by name.
func (r *Report) Bulk() string { return r.bulk(byName, bulkOne, bulkEight) }

func (r *Report) bulk(paths []string, one, eight cell) string {
	rows := [][]string{{"path", "1 conn, Gbit/s", "× direct", "8 conn, Gbit/s", "× direct", "CPU s/GB, 1 conn", "CPU s/GB, 8 conn"}}
	for _, p := range append([]string{direct}, paths...) {
		rows = append(rows, []string{p, r.rate(p, one, 1), r.ratio(p, one), r.rate(p, eight, 1), r.ratio(p, eight), r.cpu(p, one, 3), r.cpu(p, eight, 3)})
	}
	return table(rows)
}

// Forwarding is the table of flows that the kernel forwards.
func (r *Report) Forwarding() string {
	rows := [][]string{{"path", "raw conn/s", "× direct", "1 conn, Gbit/s", "× direct", "8 conn, Gbit/s", "× direct", "CPU µs/conn"}}
	for _, p := range append([]string{direct}, forwarding...) {
		rows = append(rows, []string{p, r.rate(p, forwardLoad, 0), r.ratio(p, forwardLoad), r.rate(p, forwardOne, 1), r.ratio(p, forwardOne),
			r.rate(p, forwardEight, 1), r.ratio(p, forwardEight), r.cpu(p, forwardLoad, 0)})
	}
	return table(rows)
}

// Resolvers is the table of questions.
func (r *Report) Resolvers() string {
	rows := [][]string{{"path", "known names, q/s", "× direct", "p99 ms", "CPU µs/q", "new names, q/s", "× direct", "p99 ms", "CPU µs/q"}}
	for _, p := range append([]string{direct}, resolvers...) {
		rows = append(rows, []string{p, r.rate(p, dnsHit, 0), r.ratio(p, dnsHit), r.of(p, dnsHit, p99, 1), r.cpu(p, dnsHit, 1),
			r.rate(p, dnsMiss, 0), r.ratio(p, dnsMiss), r.of(p, dnsMiss, p99, 1), r.cpu(p, dnsMiss, 1)})
	}
	return table(rows)
}

// IdleTable is the table of spliced connections that do nothing.
func (r *Report) IdleTable() string { return idleTable(r.Options.idle, r.Idle) }

func idleTable(counts []int, of []Idle) string {
	rows := []string{"| path | PSS MB at " + joinCounts(counts) + " | KB per connection | descriptors per connection |", "|---|---|---|---|"}
	for _, i := range of {
		rows = append(rows, i.row())
	}
	return strings.Join(rows, "\n")
}

func joinCounts(n []int) string {
	var s []string
	for _, v := range n {
		s = append(s, fmt.Sprint(v))
	}
	return strings.Join(s, " / ") + " connections"
}

func (r *Report) of(path string, c cell, value func(Sample) float64, decimals int) string {
	return pick(r.Samples, path, c, value).text(decimals)
}

func (r *Report) rate(path string, c cell, decimals int) string { return r.of(path, c, rate, decimals) }

func (r *Report) ratio(path string, c cell) string {
	if path == direct {
		return "1"
	}
	return r.of(path, c, ratio, 2)
}

func (r *Report) cpu(path string, c cell, decimals int) string {
	if path == direct || path == masquerade {
		return "–" // the kernel's own, which nobody is charged with
	}
	return r.of(path, c, cpu, decimals)
}

// Stall is the longest time of a new connection while a ruleset was replaced.
func (r *Report) Stall() string { return newSpread(r.Reload).text(1) }

// NoStall is the same while nothing happened.
func (r *Report) NoStall() string { return newSpread(r.NoReload).text(1) }

// Restarted is the time from a start to the first connection.
func (r *Report) Restarted() string { return newSpread(r.Restart).text(0) }

// Foreign tells how much of the machine others used during measurements.
func (r *Report) Foreign() string {
	var shares []float64
	spoilt := 0
	for _, s := range r.Samples {
		if shares = append(shares, 100*s.Foreign); s.Foreign > noisy {
			spoilt++
		}
	}
	return fmt.Sprintf("%s %% of the machine; %d of %d measurements above %.0f %%", newSpread(shares).text(0), spoilt, len(r.Samples), 100*noisy)
}

// Busy reports whether others used the machine during most measurements.
func (r *Report) Busy() bool {
	spoilt := 0
	for _, s := range r.Samples {
		if s.Foreign > noisy {
			spoilt++
		}
	}
	return 2*spoilt > len(r.Samples)
}

// Failed lists what did not succeed, by path and cell.
func (r *Report) Failed() string {
	count := map[string]int{}
	var order []string
	for _, s := range r.Samples {
		if s.Failed > 0 {
			key := s.Path + ": " + s.Cell
			if count[key] == 0 {
				order = append(order, key)
			}
			count[key] += s.Failed
		}
	}
	for i, key := range order {
		order[i] = fmt.Sprintf("%s %d", key, count[key])
	}
	if len(order) == 0 {
		return "none"
	}
	return strings.Join(order, ", ")
}
