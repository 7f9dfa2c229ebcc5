package sdk

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const root = "../.."

// TestGenerated holds what is committed to the schema. After a change: make sdks
func TestGenerated(t *testing.T) {
	for _, generator := range []struct {
		dir       string // that the generator runs in
		args      []string
		languages []string
	}{
		{root, []string{"run", "./sdk/gen", "-out"}, []string{"go", "nodejs", "python"}},
		{root + "/sdk/gen/java", []string{"run", ".", "-out"}, []string{"java"}},
		{root + "/sdk/gen/dotnet", []string{"run", ".", "-out"}, []string{"dotnet"}},
	} {
		t.Run(strings.Join(generator.languages, ","), func(t *testing.T) {
			out := t.TempDir()
			if len(generator.languages) == 1 {
				out = filepath.Join(out, generator.languages[0])
			}
			run(t, generator.dir, nil, "go", append(generator.args, out)...)
			if len(generator.languages) == 1 {
				out = filepath.Dir(out)
			}
			for _, language := range generator.languages {
				same(t, filepath.Join(out, language), filepath.Join(root, "sdk", language))
			}
		})
	}
}

// same compares two folders, but for what compilers leave in the second.
func same(t *testing.T, want, got string) {
	t.Helper()
	files := func(dir string) map[string][]byte {
		all := map[string][]byte{}
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() {
				switch d.Name() {
				case "bin", "target", "node_modules", "__pycache__":
					return fs.SkipDir
				}
				return nil
			}
			all[strings.TrimPrefix(path, dir)], err = os.ReadFile(path)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	committed := files(got)
	for name, text := range files(want) {
		if !bytes.Equal(committed[name], text) {
			t.Errorf("%s%s is not what schema.json gives; run: make sdks", got, name)
		}
		delete(committed, name)
	}
	for name := range committed {
		t.Errorf("%s%s is not generated from schema.json; run: make sdks", got, name)
	}
}

// TestTypeScript compiles the SDK and loads it.
func TestTypeScript(t *testing.T) {
	dir, schema := compiled(t), absolute(t, root+"/schema.json")
	run(t, dir, nil, "node", "-e", `
const bulkhead = require("./bin");
for (const token of Object.keys(require(process.argv[1]).resources)) {
	const name = token.split(":").pop();
	if (typeof bulkhead[name] !== "function") throw new Error("no " + name);
}`, schema)
}

// compiled is a copy of the SDK of TypeScript with what is published of it in bin, as make sdks
// leaves it.
func compiled(t *testing.T) string {
	dir, modules := t.TempDir(), installed(t, "bin/twin/node/node_modules")
	if err := os.CopyFS(dir, os.DirFS(root+"/sdk/nodejs")); err != nil {
		t.Fatal(err)
	}
	for _, left := range []string{"bin", "node_modules"} { // by make sdks
		if err := os.RemoveAll(filepath.Join(dir, left)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	run(t, dir, nil, filepath.Join(modules, ".bin", "tsc"), "-p", ".")
	run(t, dir, nil, "cp", "package.json", "bin/")
	return dir
}

// TestTypeScriptExamples compiles the examples with the SDK, and with the real package of
// azure-native where they use it.
func TestTypeScriptExamples(t *testing.T) {
	modules := installed(t, "bin/twin/node/node_modules")
	sdk := compiled(t)
	for _, example := range []string{"typescript", "foundry"} {
		t.Run(example, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(root+"/examples/"+example)); err != nil {
				t.Fatal(err)
			}
			own := filepath.Join(dir, "node_modules")
			for name, target := range map[string]string{
				"@bulkhead-dev/bulkhead": filepath.Join(sdk, "bin"),
				"@pulumi":                filepath.Join(modules, "@pulumi"),
				"@types":                 filepath.Join(modules, "@types"),
			} {
				if err := os.MkdirAll(filepath.Dir(filepath.Join(own, name)), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.Symlink(target, filepath.Join(own, name)); err != nil {
					t.Fatal(err)
				}
			}
			run(t, dir, nil, filepath.Join(modules, ".bin", "tsc"), "-p", ".")
		})
	}
}

// TestPython installs the SDK and imports it.
func TestPython(t *testing.T) {
	python := installed(t, "bin/twin/python/bin/python3")
	source, site, schema := t.TempDir(), t.TempDir(), absolute(t, root+"/schema.json")
	if err := os.CopyFS(source, os.DirFS(root+"/sdk/python")); err != nil {
		t.Fatal(err)
	}
	run(t, source, nil, python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", "--no-build-isolation", "--target", site, ".")
	run(t, source, nil, python, "-I", "-c", `
import inspect, json, sys
sys.path.insert(0, sys.argv[1])
import bulkhead_dev_bulkhead as bulkhead
for token in json.load(open(sys.argv[2]))["resources"]:
    name = token.split(":")[-1]
    inspect.signature(getattr(bulkhead, name))
    inspect.signature(getattr(bulkhead, name + "Args"))
`, site, schema)
}

// TestJava compiles the SDK with Maven against Pulumi's library.
func TestJava(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(root+"/sdk/java")); err != nil {
		t.Fatal(err)
	}
	run(t, dir, []string{"MAVEN_OPTS=-Dmaven.repo.local=" + installed(t, "bin/twin/m2")}, "mvn", "--offline", "--quiet", "--batch-mode", "compile")
}

// TestCSharp parses the SDK and the example in the documentation, and looks for the classes of the schema. A compiler
// and Pulumi's library for C# are not among what the tests can install, so types are not checked.
func TestCSharp(t *testing.T) {
	python := installed(t, "bin/twin/python/bin/python3")
	run(t, root, nil, python, "-I", "-c", `
import json, pathlib, re, sys
import tree_sitter, tree_sitter_c_sharp
parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_c_sharp.language()))
classes, wrong = set(), []

def walk(node, where):
    if node.is_error or node.is_missing:
        wrong.append(f"{where}:{node.start_point[0] + 1}: {node.text.decode()[:60]!r} is no C#")
        return
    if node.type in ("class_declaration", "enum_declaration", "struct_declaration"):
        classes.add(node.child_by_field_name("name").text.decode())
    for child in node.children:
        walk(child, where)

files = {str(p): p.read_bytes() for p in sorted(pathlib.Path("sdk/dotnet").rglob("*.cs"))}
page = pathlib.Path("docs/_index.md").read_text()
for i, text in enumerate(re.findall("\x60{3}csharp\n(.*?)\x60{3}", page, re.S)):
    files[f"docs/_index.md, example {i}"] = text.encode()
if len(files) < 20 or not any(name.startswith("docs") for name in files):
    sys.exit(f"only {len(files)} files")
for name, text in files.items():
    walk(parser.parse(text).root_node, name)
for token in json.load(open("schema.json"))["resources"]:
    name = token.split(":")[-1]
    wrong += [f"no class {want}" for want in (name, name + "Args") if want not in classes]
if wrong:
    sys.exit("\n".join(wrong))
`)
}

// installed is what make deps left there.
func installed(t *testing.T, path string) string {
	t.Helper()
	path = absolute(t, filepath.Join(root, path))
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run make deps", err)
	}
	return path
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func run(t *testing.T, dir string, env []string, program string, args ...string) {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), append(env, "CGO_ENABLED=0")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
}
