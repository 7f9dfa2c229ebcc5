package load

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

const insideEnv = "BULKHEAD_BENCH_TEST_INSIDE"

// TestMain runs the tests in a network namespace in which every address of the test's
// origin and agents is local.
func TestMain(m *testing.M) {
	if os.Getenv(insideEnv) == "" {
		os.Exit(again())
	}
	if err := network(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// again runs this program in a namespace and returns its exit code.
func again() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if cmd.SysProcAttr = lab.UserNamespace(); lab.Privileged() {
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	runtime.LockOSThread() // the death signal follows the thread that started the child
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return max(exit.ExitCode(), 1)
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

func network() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	for _, prefix := range []string{testOrigin.String(), "10.101.128.0/17"} {
		dst, err := netlink.ParseIPNet(prefix)
		if err != nil {
			return err
		}
		// A route of this type makes all of a prefix local, without as many addresses.
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: dst, Type: syscall.RTN_LOCAL, Table: syscall.RT_TABLE_LOCAL,
			Scope: netlink.SCOPE_HOST}); err != nil {
			return fmt.Errorf("%s: %w", prefix, err)
		}
	}
	return nil
}
