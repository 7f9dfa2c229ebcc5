package main

import (
	"fmt"
	"strings"
	"time"
)

type Machine struct {
	Kernel, Go, Cores, Memory, Commit string
	Peers                             []string
}
type Held struct {
	N   int
	PSS int64
	FDs int
}
type Idle struct {
	Path string
	At   []Held
}
type Report struct {
	Options          options
	Samples          []Sample
	Idle             []Idle
	Live, LiveLost   int
	LiveWhy          string
	Reload, NoReload []float64
	ReloadErrors     int
	Restart          []float64
	Took             time.Duration
	Machine          Machine
}

func (r *Report) markdown() (string, error) {
	var b strings.Builder
	for _, s := range r.Samples {
		fmt.Fprintf(&b, "%+v\n", s)
	}
	fmt.Fprintf(&b, "%+v %+v %+v %+v %+v %+v %+v\n", r.Idle, r.Live, r.LiveLost, r.LiveWhy, r.Reload, r.NoReload, r.Restart)
	return b.String(), nil
}
