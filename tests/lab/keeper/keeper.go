package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-dev/bulkhead/tests/lab"
	"github.com/bulkhead-dev/bulkhead/tests/lab/killchain"
)

// Options say which lab to keep.
type Options struct {
	Dir     string // of the socket and the lab's files
	Gateway string // the bulkhead binary
	TwoArm  bool
}

// startTime bounds how long a lab may take to come up.
const startTime = time.Minute

// progress is one line of what Keep writes while the lab comes up.
type progress struct {
	Say   string `json:"say,omitempty"`
	Error string `json:"error,omitempty"`
	Ready bool   `json:"ready,omitempty"`
}

// Keep brings a lab up, says how that goes on w, and serves it until a client wants it
// down or ctx ends.
func Keep(ctx context.Context, opt Options, w io.WriteCloser) error {
	say := json.NewEncoder(w)
	k, err := open(ctx, opt, func(s string) { say.Encode(progress{Say: s}) })
	if err != nil {
		say.Encode(progress{Error: err.Error()})
		return err
	}
	say.Encode(progress{Ready: true})
	w.Close()
	return k.serve(ctx)
}

type keeper struct {
	opt  Options
	lab  *lab.Lab
	sock *net.UnixListener

	attack sync.Mutex // one chain at a time, or they count each other's packets
	down   func()
	wg     sync.WaitGroup
}

func open(ctx context.Context, opt Options, say func(string)) (*keeper, error) {
	sock, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: socketPath(opt.Dir), Net: "unixpacket"})
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(socketPath(opt.Dir), 0o600); err != nil {
		sock.Close()
		return nil, err
	}
	up, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	l, err := lab.Up(up, lab.Options{Gateway: opt.Gateway, TwoArm: opt.TwoArm, Dir: filepath.Join(opt.Dir, "lab"), Progress: say})
	if err != nil {
		sock.Close()
		return nil, err
	}
	return &keeper{opt: opt, lab: l, sock: sock}, nil
}

func (k *keeper) serve(ctx context.Context) error {
	ctx, k.down = context.WithCancel(ctx)
	defer k.down()
	stop := context.AfterFunc(ctx, func() { k.sock.Close() })
	defer stop()
	for {
		conn, err := k.sock.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			break
		}
		if err != nil {
			continue
		}
		k.wg.Add(1)
		go func() {
			defer k.wg.Done()
			defer conn.Close()
			k.handle(ctx, conn)
		}()
	}
	err := k.takeDown(context.WithoutCancel(ctx)) // nothing is left to do if a client asked for it
	k.wg.Wait()
	return err
}

func (k *keeper) handle(ctx context.Context, conn *net.UnixConn) {
	if err := checkPeer(conn); err != nil {
		send(conn, reply{Done: true, Error: err.Error()})
		return
	}
	var req request
	files, err := receive(conn, &req)
	if err != nil {
		return // a client that looked whether somebody is here
	}
	defer closeAll(files)
	last := reply{Done: true}
	switch req.Op {
	case opStatus:
		last.Status = k.status()
	case opAttack:
		err = k.runAttack(ctx, conn, req.Host)
	case opExec:
		last.Exit, err = k.exec(ctx, conn, req, files)
	case opDown:
		err = k.takeDown(ctx)
		defer k.down() // after the reply
	default:
		err = fmt.Errorf("unknown request %q: the lab was brought up by another version of bulkhead; take it down and up again", req.Op)
	}
	if err != nil {
		last.Error = err.Error()
	}
	send(conn, last)
}

// takeDown ends the gateway as an operator would and then everything else; programs die
// with their hosts, so that nobody is waited for.
func (k *keeper) takeDown(ctx context.Context) error {
	var err error
	if k.lab.Process != nil {
		drain, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		err = k.lab.Process.Stop(drain)
	}
	return errors.Join(err, k.lab.Down())
}

// checkPeer lets only the user in whose lab this is, whatever the mode of the folder.
func checkPeer(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	if ctlErr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); ctlErr != nil {
		return ctlErr
	}
	if err != nil {
		return err
	}
	if int(cred.Uid) != os.Getuid() {
		return errors.New("this lab belongs to another user")
	}
	return nil
}

func (k *keeper) status() *Status {
	s := &Status{PID: os.Getpid(), TwoArm: k.opt.TwoArm, Paths: k.lab.Paths}
	if k.lab.Process != nil {
		s.Gateway = k.lab.Process.PID()
	}
	for _, h := range k.lab.Hosts() {
		s.Hosts = append(s.Hosts, Host{h.Name, h.Addr.String()})
	}
	return s
}

func (k *keeper) runAttack(ctx context.Context, conn *net.UnixConn, from string) error {
	k.attack.Lock()
	defer k.attack.Unlock()
	var sendErr error
	err := killchain.Run(ctx, k.lab, from, func(r killchain.Result) {
		if sendErr == nil {
			sendErr = send(conn, reply{Result: &r})
		}
	})
	return errors.Join(err, sendErr)
}
