// Command bench measures the gateway beside the programs that an operator would use in
// its place, and writes docs/benchmarks.md.
//
//	go run ./tests/bench            # as root, on a quiet machine; about 13 minutes
//	go run ./tests/bench -quick     # to see that it works; the figures are rough
//
// Everything runs in network namespaces that it makes: one for the agents, one for the
// origin, and between them one for each gateway that is compared, with its own addresses
// (see path). Agents and origin are processes of their own (package load), so that their CPU
// time can be told from the gateway's.
//
// Measurements are interleaved: each one is taken right after the same one on a path
// that only forwards, and is given as a ratio to it, because absolute figures of a small
// virtual machine say little and change from minute to minute. Rounds repeat all of them;
// tables show medians and, in brackets, the lowest and the highest.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/bulkhead-dev/bulkhead/tests/bench/load"
)

type options struct {
	Rounds int
	Cell   time.Duration // how long one measurement takes
	Quick  bool
	live   int   // flows open during a reload: room for others must be left, with 20,000 descriptors
	idle   []int // connections open when memory is read
	out    string
}

func main() {
	// The benchmark starts itself again as agents and as origin.
	if len(os.Args) > 1 && os.Args[1] == roleClient {
		exit(load.Work(os.Stdin, os.Stdout))
	}
	if len(os.Args) > 1 && os.Args[1] == roleOrigin {
		exit(serveOrigin(os.Args[2:]))
	}
	opt := options{Cell: 2 * time.Second, live: 4000, idle: []int{0, 1000, 3000}}
	flag.IntVar(&opt.Rounds, "rounds", 3, "how often each measurement is repeated")
	flag.BoolVar(&opt.Quick, "quick", false, "two short rounds, to see that everything works")
	flag.StringVar(&opt.out, "out", "docs/benchmarks.md", "where the report goes")
	flag.Parse()
	if flag.NArg() > 0 {
		exit(fmt.Errorf("unknown argument %q", flag.Arg(0)))
	}
	if opt.Quick {
		opt.Rounds, opt.Cell = 2, 500*time.Millisecond
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	exit(run(ctx, opt))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// serveOrigin wants the file of the web server's certificate, and the paths' origins.
func serveOrigin(args []string) error {
	if len(args) < 2 {
		return errors.New("the origin needs a certificate and addresses")
	}
	cert, err := readPair(args[0])
	if err != nil {
		return err
	}
	var origins []netip.Prefix
	for _, a := range args[1:] {
		p, err := netip.ParsePrefix(a)
		if err != nil {
			return err
		}
		origins = append(origins, p)
	}
	return load.Serve(context.Background(), origins, cert)
}

// run measures everything and writes the report.
func run(ctx context.Context, opt options) error {
	start := time.Now()
	if os.Getuid() != 0 {
		return errors.New("run as root: it installs the peers and makes network namespaces")
	}
	if opt.Rounds < 1 {
		return errors.New("-rounds: at least 1")
	}
	say("installing and building what is compared")
	if err := install(ctx); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "bulkhead-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // for peers that leave root
		return err
	}
	s, err := newScene(ctx, dir)
	if err != nil {
		return err
	}
	defer s.close()
	b := &bench{scene: s, opt: opt}
	if err := b.all(ctx); err != nil {
		return err
	}
	b.report.Took = time.Since(start).Round(time.Second)
	if b.report.Machine, err = machine(ctx); err != nil {
		return err
	}
	text, err := b.report.markdown()
	if err != nil {
		return err
	}
	say("writing %s", opt.out)
	return os.WriteFile(opt.out, []byte(text), 0o644)
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...) }
