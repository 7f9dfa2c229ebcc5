package engine

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/auto"
	"github.com/pulumi/pulumi/sdk/v3/go/common/tokens"
	"github.com/pulumi/pulumi/sdk/v3/go/common/workspace"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// An Engine is the real one, with a backend in a folder of the test.
type Engine struct {
	t       testing.TB
	home    string
	backend string
	env     map[string]string
}

// New prepares an engine with the plugins of a test. The test is skipped in short mode: what
// is missing is built first, and that takes minutes on a new machine.
func New(t testing.TB, plugins ...Plugin) *Engine {
	t.Helper()
	if testing.Short() {
		t.Skip("the engine is built first")
	}
	dir, err := home(plugins)
	if err != nil {
		t.Fatal(err)
	}
	e := &Engine{t: t, home: dir, backend: "file://" + t.TempDir(), env: map[string]string{}}
	e.Setenv(environment(dir)...)
	e.Setenv("PULUMI_BACKEND_URL=" + e.backend)
	return e
}

// Setenv adds to the environment of the engine, and so of its plugins and programs.
func (e *Engine) Setenv(all ...string) {
	for _, kv := range all {
		name, value, _ := strings.Cut(kv, "=")
		e.env[name] = value
	}
}

// Command is the command-line program in a directory, for what a [Stack] does not offer.
func (e *Engine) Command(dir string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(e.home, "bin", "pulumi"), args...)
	cmd.Dir = dir
	for name, value := range e.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

// Inline makes a stack of a Go function that runs in this process, by the Automation API.
func (e *Engine) Inline(project string, program pulumi.RunFunc) *Stack {
	e.t.Helper()
	command, err := auto.NewPulumiCommand(&auto.PulumiCommandOptions{Root: e.home})
	if err != nil {
		e.t.Fatal(err)
	}
	stack, err := auto.UpsertStackInlineSource(e.t.Context(), "dev", project, program,
		auto.Pulumi(command), auto.PulumiHome(e.home), auto.EnvVars(maps.Clone(e.env)), auto.WorkDir(e.t.TempDir()),
		auto.Project(workspace.Project{
			Name: tokens.PackageName(project), Runtime: workspace.NewProjectRuntimeInfo("go", nil),
			Backend: &workspace.ProjectBackend{URL: e.backend},
		}))
	if err != nil {
		e.t.Fatal(err)
	}
	return &Stack{t: e.t, operate: automation{&stack}, engine: e, dir: stack.Workspace().WorkDir()}
}

// Project makes a stack of the project in a directory, by the command line. Configuration is
// written beside the project, so give it a copy of what is committed ([Engine.Copy]).
func (e *Engine) Project(dir string) *Stack {
	e.t.Helper()
	s := &Stack{t: e.t, operate: commandLine{e, dir}, engine: e, dir: dir}
	s.command("stack", "init", "dev")
	return s
}

// Copy copies a directory of the repository, such as examples/yaml, into a folder of the test
// within the repository, so that a program in Go is still part of its module.
func (e *Engine) Copy(dir string) string {
	e.t.Helper()
	// What begins with an underscore is no part of ./...
	folder, err := os.MkdirTemp(filepath.Join(Root(), "bin", "twin"), "_copy-")
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { os.RemoveAll(folder) })
	to := filepath.Join(folder, filepath.Base(dir))
	if err := os.CopyFS(to, os.DirFS(filepath.Join(Root(), dir))); err != nil {
		e.t.Fatal(err)
	}
	return to
}
