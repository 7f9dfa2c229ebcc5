package engine

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// TypeScript gives a project the modules that make twin installed, and this repository's SDK
// among them, compiled.
func (e *Engine) TypeScript(dir string) *Stack {
	e.t.Helper()
	modules := filepath.Join(Root(), "bin", "twin", "node", "node_modules")
	e.must(locked(filepath.Join(Root(), "bin", "twin"), func() error {
		// The compiler looks for modules above the source.
		source, sdk := filepath.Join(filepath.Dir(modules), "sdk"), filepath.Join(modules, "@bulkhead-dev", "bulkhead")
		if err := errors.Join(os.RemoveAll(source), os.RemoveAll(sdk), os.CopyFS(source, os.DirFS(filepath.Join(Root(), "sdk", "nodejs"))),
			os.RemoveAll(filepath.Join(source, "node_modules"))); err != nil { // left by make sdks
			return err
		}
		if err := command("", nil, filepath.Join(modules, ".bin", "tsc"), "-p", source, "--outDir", sdk); err != nil {
			return err
		}
		return command("", nil, "cp", filepath.Join(source, "package.json"), sdk)
	}))
	e.must(os.Symlink(modules, filepath.Join(dir, "node_modules")))
	return e.Project(dir)
}

// Python gives a project the environment that make twin installed, and this repository's SDK
// beside it.
func (e *Engine) Python(dir string) *Stack {
	e.t.Helper()
	venv := filepath.Join(Root(), "bin", "twin", "python")
	source, site := e.Copy("sdk/python"), e.t.TempDir() // pip writes into the source
	e.must(command(source, nil, filepath.Join(venv, "bin", "python3"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
		"--no-index", "--no-deps", "--no-build-isolation", "--target", site, "."))
	e.must(os.Symlink(venv, filepath.Join(dir, "venv")))
	e.Setenv("PYTHONPATH="+site, "PYTHONDONTWRITEBYTECODE=1")
	return e.Project(dir)
}

// Java gives a project the repository of Maven that make twin filled, with this repository's
// SDK in it.
func (e *Engine) Java(dir string) *Stack {
	e.t.Helper()
	maven := "MAVEN_OPTS=-Dmaven.repo.local=" + filepath.Join(Root(), "bin", "twin", "m2")
	e.must(command(e.Copy("sdk/java"), []string{maven}, "mvn", "--offline", "--quiet", "--batch-mode", "install"))
	e.Setenv(maven)
	return e.Project(dir)
}

func (e *Engine) must(err error) {
	e.t.Helper()
	if err != nil {
		e.t.Fatal(err)
	}
}

func command(dir string, env []string, program string, args ...string) error {
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w; is it installed by make twin?\n%s", filepath.Base(program), err, out)
	}
	return nil
}
