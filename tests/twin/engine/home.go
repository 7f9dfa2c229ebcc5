package engine

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// A Plugin is a resource plugin of this repository.
type Plugin struct {
	Name, Version string // without v
	Package       string // the main package, such as ./components/cmd/pulumi-resource-bulkhead
}

// standin are the languages whose host is cmd/pulumi-language-standin.
var standin = []string{"go", "nodejs", "python", "java"}

// home prepares a PULUMI_HOME with the plugins installed in it, and with the programs in its
// folder bin. Homes are kept in bin/twin, one for each set of plugins, and made anew when one
// of their programs was.
func home(plugins []Plugin) (string, error) {
	tools, err := Tools()
	if err != nil {
		return "", err
	}
	host, err := Program("./tests/twin/engine/cmd/pulumi-language-standin")
	if err != nil {
		return "", err
	}
	name := "home"
	var stamp strings.Builder
	files := make([]string, len(plugins))
	for i, p := range plugins {
		name += "-" + p.Name + "-" + p.Version
		if files[i], err = Program(p.Package); err != nil {
			return "", err
		}
	}
	for _, file := range append([]string{filepath.Join(tools, "pulumi"), filepath.Join(tools, "pulumi-language-yaml"), host}, files...) {
		sum, err := digest(file)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&stamp, "%s %x\n", file, sum)
	}
	twin := filepath.Join(Root(), "bin", "twin")
	dir := filepath.Join(twin, name)
	return dir, locked(twin, func() error {
		if was, err := os.ReadFile(filepath.Join(dir, "stamp")); err == nil && string(was) == stamp.String() {
			return nil
		}
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Join(dir, "bin"), 0o755); err != nil {
			return err
		}
		// Hosts that lie beside the engine are taken as its own. It looks beside its file,
		// not beside a link to it.
		installed := map[string]string{}
		for program := range programs {
			installed[program] = filepath.Join(tools, program)
		}
		for _, language := range standin {
			installed["pulumi-language-"+language] = host
		}
		for name, file := range installed {
			if err := command("", nil, "cp", file, filepath.Join(dir, "bin", name)); err != nil {
				return err
			}
		}
		for i, p := range plugins {
			cmd := exec.Command(filepath.Join(dir, "bin", "pulumi"), "plugin", "install", "resource", p.Name, "v"+p.Version, "--file", files[i])
			cmd.Env = append(environment(dir), "PULUMI_BACKEND_URL=file://"+dir)
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("installing the plugin %s: %w\n%s", p.Name, err, out)
			}
		}
		return os.WriteFile(filepath.Join(dir, "stamp"), []byte(stamp.String()), 0o644)
	})
}

// digest tells programs apart by content: go build gives a file that was up to date a new time, and
// a home that is made anew is taken from under whoever uses it.
func digest(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return h.Sum(nil), err
}

// environment is the process's own without what would lead Pulumi or a plugin to the user's
// account, and without a network: a proxy that is not there answers for every host but this
// one.
func environment(home string) []string {
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		upper := strings.ToUpper(name)
		return strings.HasPrefix(upper, "PULUMI_") || strings.HasPrefix(upper, "AZURE_") || strings.HasPrefix(upper, "ARM_") ||
			slices.Contains([]string{"PATH", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "CGO_ENABLED"}, upper)
	})
	return append(env,
		"PATH="+filepath.Join(home, "bin")+string(filepath.ListSeparator)+os.Getenv("PATH"),
		"PULUMI_HOME="+home,
		"PULUMI_CONFIG_PASSPHRASE=twin",
		"PULUMI_SKIP_UPDATE_CHECK=1",
		"PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION=1",
		"PULUMI_DISABLE_CI_DETECTION=1",
		"PULUMI_DEBUG_COMMANDS=1", // for --event-log
		"PULUMI_PYTHON_RUNNER="+pythonRunner(),
		"HTTP_PROXY="+nowhere, "HTTPS_PROXY="+nowhere, "http_proxy="+nowhere, "https_proxy="+nowhere,
		"NO_PROXY=127.0.0.1,localhost", "no_proxy=127.0.0.1,localhost",
		"CGO_ENABLED=0",
	)
}

// nowhere is port 9 of this host, where nobody listens.
const nowhere = "http://127.0.0.1:9"

// pythonRunner is the file that starts a program in Python, from the module of the SDK.
func pythonRunner() string {
	cmd := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/pulumi/pulumi/sdk/v3")
	cmd.Dir = Root()
	out, err := cmd.Output()
	if err != nil {
		return ""
	}
	return filepath.Join(strings.TrimSpace(string(out)), "python", "cmd", "pulumi-language-python-exec")
}
