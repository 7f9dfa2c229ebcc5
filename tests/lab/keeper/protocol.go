package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/bulkhead-dev/bulkhead/tests/lab"
	"github.com/bulkhead-dev/bulkhead/tests/lab/killchain"
)

// What a client asks for. Each connection carries one request; a program that is
// running takes signals after it.
const (
	opExec   = "exec"
	opAttack = "attack"
	opStatus = "status"
	opDown   = "down"
)

type request struct {
	Op   string   `json:"op"`
	Host string   `json:"host,omitempty"`
	Args []string `json:"args,omitempty"` // the first is an absolute path
	Env  []string `json:"env,omitempty"`
	Dir  string   `json:"dir,omitempty"`
	// Signal is for the program that runs, in a later message of the connection.
	Signal int `json:"signal,omitempty"`
}

// reply is what the keeper says; the last one of a connection has Done.
type reply struct {
	Done   bool              `json:"done,omitempty"`
	Error  string            `json:"error,omitempty"`
	Exit   int               `json:"exit,omitempty"`
	Status *Status           `json:"status,omitempty"`
	Result *killchain.Result `json:"result,omitempty"`
}

// Status describes a lab that is up.
type Status struct {
	PID     int       `json:"pid"`     // of the keeper
	Gateway int       `json:"gateway"` // of the gateway, 0 if it has ended
	TwoArm  bool      `json:"twoArm"`
	Hosts   []Host    `json:"hosts"`
	Paths   lab.Paths `json:"paths"`
}

// Host is one machine of the lab.
type Host struct {
	Name string `json:"name"`
	Addr string `json:"addr"`
}

// maxMessage bounds a message; a socket of this kind carries each whole or not at all.
const maxMessage = 128 << 10

// Dir is where the lab of this user has its socket and its files: under
// XDG_RUNTIME_DIR, for root without one in /run, else in the temporary folder.
func Dir() string {
	if d := os.Getenv("XDG_RUNTIME_DIR"); d != "" {
		return filepath.Join(d, "bulkhead-lab")
	}
	if os.Getuid() == 0 {
		return "/run/bulkhead-lab"
	}
	return filepath.Join(os.TempDir(), "bulkhead-lab-"+strconv.Itoa(os.Getuid()))
}

func socketPath(dir string) string { return filepath.Join(dir, "lab.sock") }

func send(c *net.UnixConn, v any, files ...*os.File) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(data) > maxMessage {
		return fmt.Errorf("arguments and environment take %d bytes, more than %d: run it with a smaller environment (env -i)", len(data), maxMessage)
	}
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		rights = unix.UnixRights(fds...)
	}
	_, _, err = c.WriteMsgUnix(data, rights, nil)
	return err
}

// receive reads one message and the files that came with it.
func receive(c *net.UnixConn, v any) ([]*os.File, error) {
	buf, oob := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(3*4))
	n, oobn, flags, _, err := c.ReadMsgUnix(buf, oob)
	if err != nil {
		return nil, err
	}
	files, err := passedFiles(oob[:oobn])
	if err != nil {
		return nil, err
	}
	if n == 0 {
		err = net.ErrClosed // a closed connection of this kind reads as an empty message
	} else if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		err = errors.New("message too long")
	} else {
		err = json.Unmarshal(buf[:n], v)
	}
	if err != nil {
		closeAll(files)
		return nil, err
	}
	return files, nil
}

func passedFiles(oob []byte) ([]*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue // not descriptors
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "passed"))
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
