package load

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// timeout bounds one connection. It is far above what any path needs, so what meets it
// is a failure.
const timeout = 10 * time.Second

// Work does the jobs that it reads from r and writes their results to w until r ends.
func Work(r io.Reader, w io.Writer) error {
	c := &client{}
	defer c.drop()
	dec, enc := json.NewDecoder(r), json.NewEncoder(w)
	for {
		var job Job
		if err := dec.Decode(&job); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		res, err := c.do(&job)
		if err != nil {
			res.Error = err.Error()
		}
		if err := enc.Encode(res); err != nil {
			return err
		}
	}
}

type client struct {
	held []*net.TCPConn
}

func (c *client) do(job *Job) (Result, error) {
	if job.Kind != Drop && job.Kind != DNS && len(job.Sources) == 0 {
		return Result{}, errors.New("a job needs sources")
	}
	switch job.Kind {
	case TLS:
		return connections(job, job.one(tlsExchange(job.Name)))
	case Raw:
		return raw(job)
	case Bulk:
		return bulk(job)
	case Hold, HoldWeb:
		return c.hold(job)
	case Handshakes:
		return handshakes(job)
	case Requests:
		return requests(job)
	case Download:
		return download(job)
	case Drop:
		return c.drop(), nil
	case First:
		return first(job)
	case Resolve:
		return resolve(job)
	case DNS:
		return ask(job)
	}
	return Result{}, fmt.Errorf("unknown kind of job %q", job.Kind)
}

// pair is the n-th way from the job's sources to its targets. Every combination
// comes up before one comes up again, so that ports do not run out.
func (j *Job) pair(n int) (netip.Addr, netip.AddrPort) {
	dst := j.Targets[n/len(j.Sources)%len(j.Targets)]
	return j.Sources[n%len(j.Sources)], netip.AddrPortFrom(dst, j.Port)
}

// dial connects the n-th pair.
func (j *Job) dial(n int) (*net.TCPConn, error) { return dial(j.pair(n)) }

// dial connects. The port is chosen when the kernel knows both ends, because one reserved
// at bind(2) could not be shared between targets.
func dial(src netip.Addr, dst netip.AddrPort) (*net.TCPConn, error) {
	d := net.Dialer{Timeout: timeout, KeepAlive: -1, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(src, 0)),
		Control: func(_, _ string, raw syscall.RawConn) (err error) {
			ctlErr := raw.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
			})
			return errors.Join(ctlErr, err)
		}}
	conn, err := d.Dial("tcp4", dst.String())
	if err != nil {
		return nil, err
	}
	tcp := conn.(*net.TCPConn)
	return tcp, tcp.SetDeadline(time.Now().Add(timeout))
}

// tally is what one worker counted.
type tally struct {
	took   []time.Duration
	errors int
	why    error
}

func (t *tally) fail(err error) {
	if t.errors++; t.why == nil {
		t.why = err
	}
}

// errDone is what a connection ends with that was one more than wanted.
var errDone = errors.New("as many as wanted")

// connections makes connections one after another on each worker until the time is up,
// and measures each from dial to answer. One makes the n-th.
func connections(job *Job, one func(n int) error) (Result, error) {
	if job.Workers < 1 || len(job.Targets) == 0 {
		return Result{}, errors.New("connections need workers and targets")
	}
	start := time.Now()
	end := start.Add(job.Duration)
	tallies := make([]tally, job.Workers)
	var next atomic.Int64
	var wg sync.WaitGroup
	for i := range tallies {
		wg.Go(func() {
			for t := &tallies[i]; ; {
				from := time.Now()
				if from.After(end) {
					return
				}
				if err := one(int(next.Add(1) - 1)); errors.Is(err, errDone) {
					return
				} else if err != nil {
					t.fail(err)
					continue
				}
				t.took = append(t.took, time.Since(from))
			}
		})
	}
	wg.Wait()
	return summarize(tallies, time.Since(start)), nil
}

// one makes the n-th connection of a job and has an exchange on it.
func (j *Job) one(exchange func(*net.TCPConn) error) func(n int) error {
	return func(n int) error {
		conn, err := j.dial(n)
		if err != nil {
			return err
		}
		defer conn.Close()
		return exchange(conn)
	}
}

func summarize(tallies []tally, elapsed time.Duration) Result {
	r := Result{Elapsed: elapsed}
	var took []time.Duration
	for _, t := range tallies {
		took = append(took, t.took...)
		r.Errors += t.errors
		if t.why != nil && r.Why == "" {
			r.Why = t.why.Error()
		}
	}
	r.Count = len(took)
	if r.Count > 0 {
		slices.Sort(took)
		r.P50, r.P99, r.Max = took[r.Count/2], took[r.Count*99/100], took[r.Count-1]
	}
	return r
}

// hold opens connections, Workers at once, has each answered once, and keeps them. It stops where
// one fails, which is how far the path goes.
func (c *client) hold(job *Job) (Result, error) {
	exchange, err := rawExchange(job.Name)
	if err != nil {
		return Result{}, err
	}
	if job.Kind == HoldWeb {
		exchange = webExchange(job.Name)
	}
	start, r := time.Now(), Result{}
	for len(c.held) < job.Count && r.Errors == 0 {
		batch := make([]*net.TCPConn, min(max(job.Workers, 1), job.Count-len(c.held)))
		errs := make([]error, len(batch))
		var wg sync.WaitGroup
		for i := range batch {
			wg.Go(func() {
				if batch[i], errs[i] = job.dial(len(c.held) + i); errs[i] == nil {
					errs[i] = exchange(batch[i])
				}
			})
		}
		wg.Wait()
		for i, conn := range batch {
			switch {
			case errs[i] == nil:
				c.held = append(c.held, conn)
				continue
			case conn != nil:
				conn.Close()
			}
			r.Errors, r.Why = r.Errors+1, errs[i].Error()
		}
	}
	r.Count, r.Elapsed = len(c.held), time.Since(start)
	return r, nil
}

// drop closes what is held and counts what the other side had closed before.
func (c *client) drop() Result {
	var r Result
	for _, conn := range c.held {
		// A live connection has nothing to read: only the deadline ends the read.
		conn.SetReadDeadline(time.Now().Add(time.Millisecond))
		var b [1]byte
		if _, err := conn.Read(b[:]); !errors.Is(err, unix.EAGAIN) && !isTimeout(err) {
			r.Errors++
		}
		conn.Close()
	}
	r.Count, c.held = len(c.held), nil
	return r
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// first tries until a connection succeeds, and tells when that was.
func first(job *Job) (Result, error) {
	exchange, err := rawExchange(job.Name)
	if err != nil {
		return Result{}, err
	}
	start, once := time.Now(), job.one(exchange)
	var last error
	for n := 0; time.Since(start) < job.Duration; n++ {
		if last = once(n); last == nil {
			return Result{Count: 1, Errors: n, Elapsed: time.Since(start), At: time.Now()}, nil
		}
		time.Sleep(time.Millisecond) // a refusal costs nothing: do not burn the core the gateway starts on
	}
	return Result{}, fmt.Errorf("no connection in %s: %w", job.Duration, last)
}

// resolve asks for a name from every source, as an agent does before it connects.
func resolve(job *Job) (Result, error) {
	var r Result
	for _, src := range job.Sources {
		c := dns.Client{Timeout: 5 * time.Second, Dialer: &net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(src, 0))}}
		m, _, err := c.Exchange(new(dns.Msg).SetQuestion(dns.Fqdn(job.Name), dns.TypeA), job.Resolver.String())
		if err != nil {
			return r, fmt.Errorf("%s asks for %s: %w", src, job.Name, err)
		}
		if m.Rcode != dns.RcodeSuccess || len(m.Answer) == 0 {
			return r, fmt.Errorf("%s asks for %s: %s with %d answers", src, job.Name, dns.RcodeToString[m.Rcode], len(m.Answer))
		}
		r.Count++
	}
	return r, nil
}
