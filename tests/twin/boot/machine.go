package boot

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/bulkhead-dev/bulkhead/tests/lab"
)

// cloudConfig is what user data of a gateway holds (docs.cloud-init.io/en/latest/reference/modules.html).
// A key that is not here is an error.
type cloudConfig struct {
	Users       []map[string]string `yaml:"users"`
	SSHPassword bool                `yaml:"ssh_pwauth"`
	DisableRoot bool                `yaml:"disable_root"`
	Boot        []string            `yaml:"bootcmd"`
	Files       []struct {
		Path        string `yaml:"path"`
		Permissions string `yaml:"permissions"`
		Content     string `yaml:"content"`
	} `yaml:"write_files"`
	Run []string `yaml:"runcmd"`
}

func parseUserData(encoded string) (*cloudConfig, error) {
	data, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, fmt.Errorf("user data: %w", err)
	}
	if !bytes.HasPrefix(data, []byte("#cloud-config\n")) {
		return nil, errors.New("user data: it does not begin with #cloud-config, so cloud-init would not take it for that")
	}
	c := &cloudConfig{}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(c); err != nil {
		return nil, fmt.Errorf("user data: %w", err)
	}
	return c, nil
}

// Folders of the machine that its software is written into.
var ownFolders = []string{"/etc", "/usr/bin", "/usr/local/sbin", "/var/lib", "/var/log"}

// systemctl writes down what it is asked for. Units are run by the lab, see start.
const systemctl = "#!/bin/sh\necho \"$@\" >>/var/log/systemctl\n"

const (
	rootFile      = "/etc/bulkhead/root.crt"
	setupProgram  = "/usr/local/sbin/bulkhead-setup"
	lockdownUnit  = "/etc/systemd/system/bulkhead-lockdown.service"
	gatewayUnit   = "/etc/systemd/system/bulkhead.service"
	rootsFile     = "/etc/ssl/certs/ca-certificates.crt" // where Debian's clients and Go look first
	stateFolder   = "/var/lib/bulkhead"
	logFolder     = "/var/log/bulkhead"
	auditFile     = logFolder + "/audit.jsonl"
	systemctlFile = "/var/log/systemctl"
)

// prepare is cloud-init's part: the files of the user data. Its commands are systemd's and the
// kernel's of this machine; what they do about the network is done here: nothing is forwarded
// before the gateway says so.
func prepare(l *lab.Lab, c *cloudConfig, azure string) error {
	h := l.Host(lab.Gateway)
	if err := h.Overlay(ownFolders...); err != nil {
		return err
	}
	for _, key := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"} {
		if err := h.Sysctl(key, "0"); err != nil {
			return err
		}
	}
	for _, f := range c.Files {
		mode, err := strconv.ParseUint(f.Permissions, 8, 32)
		if err != nil {
			return fmt.Errorf("user data: permissions of %s: %w", f.Path, err)
		}
		if !path.IsAbs(f.Path) {
			return fmt.Errorf("user data: %s is no absolute path", f.Path)
		}
		if err := h.WriteFile(f.Path, []byte(f.Content), os.FileMode(mode)); err != nil {
			return err
		}
		if f.Path == rootFile {
			if err := l.Trust([]byte(f.Content)); err != nil { // what an agent's image would have
				return err
			}
		}
	}
	if err := h.WriteFile("/usr/bin/systemctl", []byte(systemctl), 0o755); err != nil {
		return err
	}
	roots, err := os.ReadFile(azure)
	if err != nil {
		return err
	}
	return h.WriteFile(rootsFile, slices.Concat(roots, l.CA.PEM), 0o644)
}

// environment is what a service has of one; nothing of this process's may reach it.
var environment = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}

// run runs a program of the machine to its end.
func run(ctx context.Context, h *lab.Host, command ...string) error {
	cmd := h.Command(ctx, command[0], command[1:]...)
	cmd.Env = environment
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", path.Base(command[0]), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// setUp runs the machine's own set-up, which fetches the release that the user data names.
func setUp(ctx context.Context, h *lab.Host, say func(string)) error {
	for {
		err := run(ctx, h, setupProgram)
		if err == nil {
			break
		}
		// As the unit says (Restart=on-failure), but sooner: a role may be on its way.
		say("bulkhead-setup failed and is run again: " + err.Error())
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Second):
		}
	}
	asked, err := h.ReadFile(systemctlFile)
	if err != nil || !strings.Contains(string(asked), "restart --no-block bulkhead.service") {
		return fmt.Errorf("bulkhead-setup did not ask for the gateway to be started: %q (%v)", asked, err)
	}
	return nil
}

// start is systemd's part: the unit that closes the machine, to its end, and then the gateway's.
func start(ctx context.Context, l *lab.Lab) error {
	h := l.Host(lab.Gateway)
	lockdown, err := execStart(h, lockdownUnit)
	if err != nil {
		return err
	}
	if err := run(ctx, h, lockdown...); err != nil {
		return err
	}
	for _, folder := range []string{stateFolder, logFolder} { // StateDirectory, LogsDirectory
		if err := h.WriteFile(folder+"/.made", nil, 0o600); err != nil {
			return err
		}
	}
	if l.Process.Command, err = execStart(h, gatewayUnit); err != nil {
		return err
	}
	l.Process.Env = environment
	l.Paths.Audit = h.Disk(auditFile)
	return l.Process.Launch()
}

// execStart is the command of a unit.
func execStart(h *lab.Host, unit string) ([]string, error) {
	text, err := h.ReadFile(unit)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		if command, ok := strings.CutPrefix(strings.TrimSpace(line), "ExecStart="); ok {
			return strings.Fields(command), nil
		}
	}
	return nil, fmt.Errorf("%s has no ExecStart", unit)
}

// instance is the metadata service: for the machine its user data, and tokens for its identity; for
// any other, whose own host would answer, nothing but a greeting.
func instance(machine netip.Addr, userData string, tokens http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metadata/instance/compute/userData", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Metadata") != "true" || r.FormValue("api-version") == "" || r.FormValue("format") != "text" {
			http.Error(w, "Required metadata header not specified", http.StatusBadRequest)
			return
		}
		fmt.Fprint(w, userData)
	})
	mux.Handle("/metadata/identity/", tokens)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if from, err := netip.ParseAddrPort(r.RemoteAddr); err != nil || from.Addr().Unmap() != machine {
			fmt.Fprintln(w, "the metadata service of another machine")
			return
		}
		mux.ServeHTTP(w, r)
	})
}
