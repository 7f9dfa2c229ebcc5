package keeper

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/bulkhead-dev/bulkhead/tests/lab"
	"github.com/bulkhead-dev/bulkhead/tests/lab/killchain"
)

// ErrDown says that no lab is up.
var ErrDown = errors.New("no lab is up: run `bulkhead lab up` first")

// Start runs command, which must call Keep with the same folder, in the background and
// returns once the lab is up. say is told what is being done meanwhile.
func Start(dir string, command []string, say func(string)) error {
	if conn, err := dial(dir); err == nil {
		conn.Close()
		return errors.New("a lab is already up: use it, or run `bulkhead lab down`")
	} else if !errors.Is(err, ErrDown) {
		return err
	}
	if err := makeDir(dir); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(dir, "keeper.log"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = w, log, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if !lab.Privileged() {
		cmd.SysProcAttr = lab.UserNamespace()
	}
	cmd.SysProcAttr.Setsid = true // it outlives this terminal
	err = cmd.Start()
	w.Close()
	if err != nil {
		return fmt.Errorf("%w (%v)", lab.ErrPrivilege, err)
	}
	if err := follow(r, say); err != nil {
		cmd.Process.Kill()
		cmd.Wait()
		clean(dir)
		return err
	}
	return cmd.Process.Release()
}

// follow reads what Keep says until the lab is up or is not going to be.
func follow(r *os.File, say func(string)) error {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var p progress
		if err := json.Unmarshal(lines.Bytes(), &p); err != nil {
			return fmt.Errorf("the lab's process says %q", lines.Text())
		}
		switch {
		case p.Error != "":
			return errors.New(p.Error)
		case p.Ready:
			return nil
		}
		say(p.Say)
	}
	return errors.New("the lab's process ended before the lab was up")
}

// makeDir makes sure that the folder is there, ours and closed to others, and
// clears what a lab that crashed has left in it.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || int(st.Uid) != os.Getuid() || info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s must be a folder of this user's with mode 0700: remove it, or set XDG_RUNTIME_DIR", dir)
	}
	return clean(dir)
}

func clean(dir string) error {
	if err := os.Remove(socketPath(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(filepath.Join(dir, "lab"))
}

func dial(dir string) (*net.UnixConn, error) {
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: socketPath(dir), Net: "unixpacket"})
	// Nobody listens: it was taken down, or its process died and left the socket.
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, ErrDown
	}
	return conn, err
}

// call sends a request and hands on what comes before the last reply.
func call(ctx context.Context, dir string, req request, each func(reply), files ...*os.File) (reply, error) {
	conn, err := dial(dir)
	if err != nil {
		return reply{}, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := send(conn, req, files...); err != nil {
		return reply{}, err
	}
	if req.Op == opExec {
		defer forwardSignals(conn)()
	}
	for {
		var r reply
		passed, err := receive(conn, &r)
		if err != nil {
			return reply{}, fmt.Errorf("the lab went down: %w", err)
		}
		closeAll(passed)
		if r.Error != "" {
			return r, errors.New(r.Error)
		}
		if r.Done {
			return r, nil
		}
		each(r)
	}
}

// forwardSignals sends what the terminal or a parent signals to the program in the lab.
func forwardSignals(conn *net.UnixConn) (stop func()) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	go func() {
		for s := range signals {
			send(conn, request{Signal: int(s.(syscall.Signal))})
		}
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
	}
}

// Exec runs a program on a host with this process's standard files, environment and
// working folder, and returns its exit status.
func Exec(ctx context.Context, dir, host string, args []string) (int, error) {
	path, err := exec.LookPath(args[0])
	if err != nil {
		return 0, err
	}
	if path, err = filepath.Abs(path); err != nil {
		return 0, err
	}
	wd, err := os.Getwd()
	if err != nil {
		return 0, err
	}
	req := request{Op: opExec, Host: host, Args: append([]string{path}, args[1:]...), Env: os.Environ(), Dir: wd}
	r, err := call(ctx, dir, req, func(reply) {}, os.Stdin, os.Stdout, os.Stderr)
	return r.Exit, err
}

// Attack plays the kill chain from a host and hands on each result as it is known.
func Attack(ctx context.Context, dir, host string, each func(killchain.Result)) error {
	_, err := call(ctx, dir, request{Op: opAttack, Host: host}, func(r reply) {
		if r.Result != nil {
			each(*r.Result)
		}
	})
	return err
}

// GetStatus describes the lab that is up.
func GetStatus(ctx context.Context, dir string) (*Status, error) {
	r, err := call(ctx, dir, request{Op: opStatus}, func(reply) {})
	if err == nil && r.Status == nil {
		err = errors.New("the lab gives no status: it was brought up by another version of bulkhead")
	}
	return r.Status, err
}

// Stop takes the lab down and returns once it is gone, its files included.
func Stop(ctx context.Context, dir string) error {
	_, err := call(ctx, dir, request{Op: opDown}, func(reply) {})
	if err == nil || errors.Is(err, ErrDown) {
		err = errors.Join(err, clean(dir))
	}
	return err
}
