package blobs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// Main is Azurite's entry in a directory that npm installed it into.
const Main = "node_modules/azurite/dist/src/blob/main.js"

// Dir finds bin/twin/azurite of the repository that the working directory is in.
func Dir() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("blobs: no go.mod above the working directory")
		}
		dir = up
	}
	dir = filepath.Join(dir, "bin", "twin", "azurite")
	if _, err := os.Stat(filepath.Join(dir, Main)); err != nil {
		return "", errors.New("blobs: Azurite is not installed: run make bin/twin/azurite")
	}
	return dir, nil
}

// azurite is a process of its own, with everything in memory, that ends with ours.
type azurite struct {
	cmd      *exec.Cmd
	endpoint string // https://127.0.0.1:PORT
}

// started is the line that tells the port.
const started = "successfully listens on "

func startAzurite(dir, certificate, key string, accounts []string) (*azurite, error) {
	cmd := exec.Command("node", filepath.Join(dir, Main), "--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence", "--silent",
		"--disableTelemetry", "--disableProductStyleUrl", "--skipApiVersionCheck", "--oauth", "basic", "--cert", certificate, "--key", key)
	// Keys of accounts are of no use: the front refuses what is signed with one.
	cmd.Env = append(os.Environ(), "AZURITE_ACCOUNTS="+strings.Join(accounts, ":dW51c2Vk;")+":dW51c2Vk")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	var trouble strings.Builder
	cmd.Stderr = &trouble
	if err := startBound(cmd); err != nil {
		return nil, fmt.Errorf("blobs: Azurite: %w", err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if _, endpoint, ok := strings.Cut(lines.Text(), started); ok {
			go io.Copy(io.Discard, out)
			return &azurite{cmd, strings.TrimSpace(endpoint)}, nil
		}
	}
	cmd.Process.Kill()
	cmd.Wait()
	return nil, fmt.Errorf("blobs: Azurite did not start: %s", trouble.String())
}

// startBound starts a command from a thread that is kept: the death signal follows the thread
// that started the child, and Go ends threads of goroutines that were locked to them, as
// tests/lab's are.
func startBound(cmd *exec.Cmd) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		started <- cmd.Start()
		select {} // with this process
	}()
	return <-started
}

func (a *azurite) stop() {
	a.cmd.Process.Kill()
	a.cmd.Wait()
}
