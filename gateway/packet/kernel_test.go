package packet

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// namespaced runs the calling test again, alone, in a process with a network
// namespace of its own, which is then the gateway's. It returns true there. As
// another user than root it takes a user namespace as well.
func namespaced(t *testing.T) bool {
	t.Helper()
	const env = "BULKHEAD_PACKET_TEST"
	if os.Getenv(env) == t.Name() {
		return true
	}
	args := []string{"-test.run=^" + t.Name() + "$", "-test.v", "-test.timeout=2m"}
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), env+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if uid := os.Getuid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	// The child must not outlive us, and the kernel ties that to the thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("in the namespace: %v", err)
	}
	t.Log("\n" + string(out))
	return false
}

// TestKernelAgreesWithText loads both renderings of every golden program and compares
// what nft lists. The product never runs nft; it is here to judge.
func TestKernelAgreesWithText(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil {
		t.Fatalf("%v: `make deps` installs nft(8), the judge of this test", err)
	}
	if !namespaced(t) {
		return
	}
	files, _ := filepath.Glob("testdata/*.golden")
	for _, file := range files {
		input, want := readGolden(t, file)
		if !strings.HasPrefix(want, "table") {
			continue
		}
		cfg, table := parseInput(t, input)
		cfg, err := cfg.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		nft(t, want, "-f", "-")
		text := nft(t, "", "list", "table", "inet", tableName)
		nft(t, "", "delete", "table", "inet", tableName)
		for range 2 { // fresh, and over what is there
			if err := build(&cfg, table).install(); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			if d := cmp.Diff(blocks(text), blocks(nft(t, "", "list", "table", "inet", tableName))); d != "" {
				t.Errorf("%s: text (-) and netlink (+) differ:\n%s", file, d)
			}
		}
		nft(t, "", "delete", "table", "inet", tableName)
	}
}

// blocks are the sets and chains of a listing. Their order says when they were made;
// what a reload keeps comes first.
func blocks(listing string) []string {
	list := strings.Split(strings.TrimSuffix(strings.TrimPrefix(listing, "table inet "+tableName+" {\n"), "}\n"), "\n\n")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	slices.Sort(list)
	return list
}

func nft(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.Command("nft", args...)
	cmd.Stdin = strings.NewReader(stdin)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("nft %v: %v\n%s", args, err, errs.String())
	}
	return string(out)
}
