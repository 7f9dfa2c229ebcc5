package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-dev/bulkhead/tests/lab/killchain"
)

// printAttack writes the table of a kill chain and what to make of it.
func printAttack(w io.Writer, results []killchain.Result) {
	rows := [][]string{{"#", "STEP", "TRIED", "THE AGENT SAW", "VERDICT", "RULE", "REASON", "AS EXPECTED"}}
	refused, leaked := 0, 0
	for i, r := range results {
		reason := r.Reason
		if r.Would != "" {
			reason = "would be denied by " + r.Would
		}
		outcome := "yes, " + string(r.Expected)
		if !r.OK {
			outcome = "NO: " + r.Problem
		}
		if r.Expected == killchain.Refused {
			refused++
			leaked += r.Leaked
		}
		rows = append(rows, []string{fmt.Sprint(i + 1), r.Step, r.Tried, r.Saw, dash(r.Verdict), dash(r.Rule), reason, outcome})
	}
	table(w, rows, terminalWidth(w))
	fmt.Fprintf(w, "\n%d steps that must be refused; packets of theirs captured at the internet, the attacker and the database: %d.\n", refused, leaked)
	fmt.Fprintln(w, "\"direct\" is what Azure delivers without any gateway: private endpoints, the same subnet, platform addresses.")
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// terminalWidth is the width of the terminal behind w, 0 where there is none.
func terminalWidth(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	return int(size.Col)
}

const (
	tableGap    = 2
	columnFloor = 12 // no column is squeezed below this
)

// table writes rows in aligned columns. In a terminal of limited width the
// widest columns are wrapped; width 0 is without limit.
func table(w io.Writer, rows [][]string, width int) {
	widths := columnWidths(rows, width)
	for _, row := range rows {
		cells := make([][]string, len(row))
		height := 0
		for i, cell := range row {
			cells[i] = wrap(cell, widths[i])
			height = max(height, len(cells[i]))
		}
		for line := range height {
			var b strings.Builder
			for i, cell := range cells {
				text := ""
				if line < len(cell) {
					text = cell[line]
				}
				b.WriteString(text + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(text)+tableGap))
			}
			fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
		}
	}
}

func columnWidths(rows [][]string, width int) []int {
	widths := make([]int, len(rows[0]))
	total := tableGap * (len(widths) - 1)
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, n := range widths {
		total += n
	}
	for width > 0 && total > width {
		widest := 0
		for i, n := range widths {
			if n > widths[widest] {
				widest = i
			}
		}
		if widths[widest] <= columnFloor {
			break
		}
		widths[widest]--
		total--
	}
	return widths
}

// wrap breaks text at spaces, and words that are too long wherever the line ends.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		for {
			room := width - utf8.RuneCountInString(line)
			if line != "" {
				room--
			}
			if utf8.RuneCountInString(word) <= room {
				if line != "" {
					line += " "
				}
				line += word
				break
			}
			if line != "" {
				lines, line = append(lines, line), ""
				continue
			}
			runes := []rune(word)
			lines, word = append(lines, string(runes[:width])), string(runes[width:])
		}
	}
	return append(lines, line)
}
