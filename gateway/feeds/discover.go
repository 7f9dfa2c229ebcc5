package feeds

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"time"
)

// Discovery asks Azure for its service tags, and keeps the answer in a file of the format that Microsoft publishes.
type Discovery struct {
	// Ask returns that format's JSON. Its bounds in time are this package's, those in size its own.
	Ask func(ctx context.Context) ([]byte, error)
	// File is where the answer is kept.
	File string

	now func() time.Time
}

// Fetch asks, and reports whether the tags have changed. An error says why the tags that are there stay.
func (d *Discovery) Fetch(ctx context.Context) (changed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	answer, err := d.Ask(ctx)
	if err != nil {
		return false, err
	}
	_, meta, err := ServiceTags(bytes.NewReader(answer))
	if err != nil {
		return false, err
	}
	now := time.Now()
	if d.now != nil {
		now = d.now()
	}
	// What is damaged, or not there, is nothing to compare with.
	if last, current, err := d.Kept(); err == nil && now.Sub(current) < patience {
		if err := odd(Kept{Entries: last.Prefixes}, Kept{Entries: meta.Prefixes}); err != nil {
			return false, err
		}
	}
	if same, err := os.ReadFile(d.File); err == nil && bytes.Equal(same, answer) {
		return false, os.Chtimes(d.File, now, now)
	}
	if err := os.MkdirAll(filepath.Dir(d.File), 0o750); err != nil {
		return false, err
	}
	return true, replace(d.File, now, bytes.NewReader(answer))
}

// Kept is what is kept, and when Azure last said so.
func (d *Discovery) Kept() (Meta, time.Time, error) {
	f, err := openRegular(d.File)
	if err != nil {
		return Meta{}, time.Time{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Meta{}, time.Time{}, err
	}
	_, meta, err := ServiceTags(f)
	return meta, info.ModTime(), err
}
