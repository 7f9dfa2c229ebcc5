package audit

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// The longest text of each kind that an event holds, in bytes. What an agent
// controls must not fill the disk or pass a reader's line limit (maxLine).
const (
	maxName    = 253
	maxMethod  = 32
	maxPath    = 1024
	maxMessage = 512
	maxLabel   = 128 // workloads, rule names, versions, digests, codes
	maxAnswers = 32
)

// bounded returns s cut to at most max bytes at a rune's end, with everything
// that is not a graphic character replaced by U+FFFD: broken UTF-8, controls that
// would act on a terminal, and the format characters that turn text around.
func bounded(s string, max int) string {
	if len(s) <= max && plain(s) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if !unicode.IsGraphic(r) {
			r = utf8.RuneError
		}
		if b.Len()+utf8.RuneLen(r) > max {
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}

func plain(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}
