package keeper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// exec runs a program with the client's standard files on a host and returns
// its exit status, 128 and the signal where a signal ended it, as shells count.
func (k *keeper) exec(ctx context.Context, conn *net.UnixConn, req request, files []*os.File) (int, error) {
	h := k.lab.Host(req.Host)
	if h == nil {
		return 0, fmt.Errorf("no host %q in the lab: use one of %s", req.Host, strings.Join(k.names(), ", "))
	}
	if len(req.Args) == 0 || len(files) != 3 {
		return 0, errors.New("a program needs a path and three files")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := h.Command(ctx, req.Args[0], req.Args[1:]...)
	cmd.Env = append(req.Env, h.Env()...)
	cmd.Dir = req.Dir
	cmd.Stdin, cmd.Stdout, cmd.Stderr = files[0], files[1], files[2]
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	go forward(conn, cmd.Process.Pid, cancel)
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, err
	}
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal()), nil
	}
	return cmd.ProcessState.ExitCode(), nil
}

// forward hands on the client's signals until the client goes; then the
// program goes too.
func forward(conn *net.UnixConn, pid int, gone func()) {
	for {
		var req request
		files, err := receive(conn, &req)
		if err != nil {
			gone()
			return
		}
		closeAll(files)
		if req.Signal > 0 {
			syscall.Kill(-pid, syscall.Signal(req.Signal)) // its whole group, as a terminal would
		}
	}
}

func (k *keeper) names() (out []string) {
	for _, h := range k.lab.Hosts() {
		out = append(out, h.Name)
	}
	return out
}
