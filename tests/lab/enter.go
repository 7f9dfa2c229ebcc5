package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// enteredEnv marks a process that Enter has started, so that a kernel which
// allows the user namespace but not what follows does not make us loop.
const enteredEnv = "BULKHEAD_LAB_ENTERED"

// ErrPrivilege says that neither root's capabilities nor a user namespace is to be had.
var ErrPrivilege = errors.New("the lab needs CAP_SYS_ADMIN and CAP_NET_ADMIN, or a kernel that lets users create user namespaces " +
	"(sysctl user.max_user_namespaces above 0, and no AppArmor restriction): run it as root or allow them")

// Privileged reports whether this process may create network and mount namespaces.
func Privileged() bool {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread dies with its namespaces
		result <- unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS)
	}()
	return <-result == nil
}

// Enter makes sure that this process may build a lab. Without the privilege it
// runs the same program with the same arguments as root of a new user
// namespace, waits, and exits with its status: call it first in main or
// TestMain. It returns nil in a process that may build a lab.
func Enter() error {
	entered := os.Getenv(enteredEnv) != ""
	if Privileged() {
		if entered {
			return loopbackUp()
		}
		return nil
	}
	if entered {
		return ErrPrivilege
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(exe, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), enteredEnv+"=1")
	cmd.SysProcAttr = UserNamespace()
	cmd.SysProcAttr.Pdeathsig = unix.SIGKILL
	runtime.LockOSThread() // the death signal follows the thread that started the child
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%w (%v)", ErrPrivilege, err)
	}
	if err := cmd.Wait(); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() < 0 {
			return err
		}
		os.Exit(exit.ExitCode())
	}
	os.Exit(0)
	return nil
}

// loopbackUp starts lo in the namespace that Enter made, because tests expect 127.0.0.1.
func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// UserNamespace is how to start a process as root of a user namespace that holds
// nothing but the caller: it may then create network and mount namespaces.
func UserNamespace() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
}
