package main

import (
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	rows := [][]string{{"STEP", "TRIED", "SAW"}, {"one", "a question that is long enough to be wrapped", "no"}, {"two", "", "yes"}}
	for _, tc := range []struct {
		name  string
		width int
		want  string
	}{
		{"unlimited", 0, `
STEP  TRIED                                         SAW
one   a question that is long enough to be wrapped  no
two                                                 yes
`},
		{"narrow", 30, `
STEP  TRIED                SAW
one   a question that is   no
      long enough to be
      wrapped
two                        yes
`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var b strings.Builder
			table(&b, rows, tc.width)
			if got, want := b.String(), tc.want[1:]; got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestWrap(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"", ""},
		{"one two", "one two"},
		{"one two three", "one two|three"},
		{"abcdefghijklmnop", "abcdefgh|ijklmnop"},
		{"a abcdefghijklmnop b", "a|abcdefgh|ijklmnop|b"},
		{"äöüäöüäöü", "äöüäöüäö|ü"},
	} {
		if got := strings.Join(wrap(tc.text, 8), "|"); got != tc.want {
			t.Errorf("wrap(%q) = %q, want %q", tc.text, got, tc.want)
		}
	}
}
