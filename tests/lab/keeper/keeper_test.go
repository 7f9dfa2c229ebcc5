package keeper_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bulkhead-dev/bulkhead/tests/lab"
	"github.com/bulkhead-dev/bulkhead/tests/lab/keeper"
)

// The test binary is also the keeper, and the client of exec, whose standard files are
// the process's own.
func TestMain(m *testing.M) {
	ctx := context.Background()
	switch os.Getenv("KEEPER_TEST") {
	case "keep":
		if err := keeper.Keep(ctx, keeper.Options{Dir: os.Args[1]}, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	case "exec":
		code, err := keeper.Exec(ctx, os.Args[1], os.Args[2], os.Args[3:])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(125)
		}
		os.Exit(code)
	}
	os.Exit(m.Run())
}

func self(t *testing.T) string {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

func start(t *testing.T, dir string) error {
	t.Setenv("KEEPER_TEST", "keep")
	err := keeper.Start(dir, []string{self(t), dir}, func(s string) { t.Log(s) })
	t.Setenv("KEEPER_TEST", "")
	return err
}

func client(t *testing.T, dir, host string, args ...string) *exec.Cmd {
	cmd := exec.Command(self(t), append([]string{dir, host}, args...)...)
	cmd.Env = append(os.Environ(), "KEEPER_TEST=exec")
	return cmd
}

func keep(t *testing.T) (context.Context, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	dir := filepath.Join(t.TempDir(), "k")
	if err := start(t, dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keeper.Stop(context.Background(), dir) })
	return ctx, dir
}

func TestExec(t *testing.T) {
	ctx, dir := keep(t)

	cmd := client(t, dir, lab.InvoiceAgent, "sh", "-c", `cat; echo "$BULKHEAD_LAB_HOST"; pwd; echo oops >&2; exit 7`)
	cmd.Stdin, cmd.Dir = strings.NewReader("from stdin\n"), "/usr"
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("exit: %v", err)
	}
	if got, want := out.String(), "from stdin\ninvoice-agent\n/usr\n"; got != want || errOut.String() != "oops\n" {
		t.Errorf("wrote %q and %q, want %q", got, errOut.String(), want)
	}

	got, err := client(t, dir, "nobody", "true").CombinedOutput()
	if err == nil || !strings.Contains(string(got), `no host "nobody"`) || !strings.Contains(string(got), lab.InvoiceAgent) {
		t.Errorf("%s, %v", got, err)
	}

	s, err := keeper.GetStatus(ctx, dir)
	if err != nil || s.PID == 0 || s.PID == os.Getpid() || len(s.Hosts) != 9 {
		t.Errorf("status %+v, %v", s, err)
	}
}

// TestSignal: a signal to the client reaches the program, and its end the client.
func TestSignal(t *testing.T) {
	_, dir := keep(t)
	cmd := client(t, dir, lab.InvoiceAgent, "sh", "-c", `trap 'exit 42' TERM; echo ready; while :; do sleep 0.05; done`)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	cmd.Process.Signal(syscall.SIGTERM)
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 42 {
		t.Errorf("exit: %v", err)
	}
}

func TestUpTwiceAndDown(t *testing.T) {
	ctx, dir := keep(t)
	if err := start(t, dir); err == nil || !strings.Contains(err.Error(), "already up") {
		t.Errorf("second up: %v", err)
	}
	if err := keeper.Stop(ctx, dir); err != nil {
		t.Fatal(err)
	}
	if _, err := keeper.GetStatus(ctx, dir); !errors.Is(err, keeper.ErrDown) {
		t.Errorf("status after down: %v", err)
	}
	if err := keeper.Stop(ctx, dir); !errors.Is(err, keeper.ErrDown) {
		t.Errorf("down after down: %v", err)
	}
}

// TestCrash: what a killed keeper leaves is seen as down, and the next up clears it.
func TestCrash(t *testing.T) {
	ctx, dir := keep(t)
	s, err := keeper.GetStatus(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	cmd := client(t, dir, lab.InvoiceAgent, "sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(s.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("a program outlived the keeper")
	}
	if _, err := keeper.GetStatus(ctx, dir); !errors.Is(err, keeper.ErrDown) {
		t.Errorf("status after a crash: %v", err)
	}
	if err := start(t, dir); err != nil {
		t.Fatalf("up after a crash: %v", err)
	}
}

func TestFolderOfOthers(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "k")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := start(t, dir); err == nil || !strings.Contains(err.Error(), "0700") {
		t.Errorf("%v", err)
	}
}
