// Command demo shows the whole of the main job on one machine: the real Pulumi engine deploys the
// standard spoke into the twin of an Azure subscription, the gateway boots out of its user data, an
// agent is attacked, a change of policy is previewed, applied and enforced, and everything is destroyed.
//
// `make demo` starts it where `make twin` has built what it needs; nothing leaves the machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

func main() {
	var d demo
	flags := flag.NewFlagSet("demo", flag.ExitOnError) // libraries have put theirs into the default one
	flags.StringVar(&d.bundle, "bundle", "", "the gateway's release archive, as `make bundle` leaves it")
	flags.StringVar(&d.binary, "bulkhead", "bin/bulkhead", "the program that verifies the audit")
	prepare := flags.Bool("prepare", false, "only build what is missing")
	flags.BoolVar(&d.verbose, "v", false, "show all that the engine prints")
	flags.Parse(os.Args[1:])
	run := func(w io.Writer) error { return d.main(w, whole) }
	if *prepare {
		run = func(io.Writer) error { return d.open() }
	}
	if err := run(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// longest bounds the demonstration; it takes about a minute.
const longest = 5 * time.Minute

func (d *demo) main(w io.Writer, parts []part) (err error) {
	if err := lab.Enter(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	if d.bundle == "" {
		return errors.New("name the release archive: -bundle dist/bulkhead-gateway_….tar.gz")
	}
	for _, file := range []*string{&d.bundle, &d.binary} {
		if *file, err = filepath.Abs(*file); err != nil {
			return err
		}
		if _, err := os.Stat(*file); err != nil {
			return err
		}
	}
	d.w = w
	if d.dir, err = os.MkdirTemp("", "bulkhead-demo-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(d.dir)) }()
	return d.run(ctx, parts)
}
