// Command java writes the SDK of Java from schema.json, with a pom.xml for Maven. Its
// generator pins an older version of the engine's module, hence this module.
//
// Usage: cd sdk/gen/java && go run . [-schema ../../../schema.json] [-version 0.1.0-dev] [-out ../../java]
package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"text/template"

	"github.com/pulumi/pulumi-java/pkg/codegen/java"
	"github.com/pulumi/pulumi/pkg/v3/codegen/schema"
)

//go:embed pom.xml.tmpl
var pom string

func main() {
	file := flag.String("schema", "../../../schema.json", "the package's schema")
	version := flag.String("version", "0.1.0-dev", "of the SDK, and of the plugin that it asks the engine for")
	out := flag.String("out", "../../java", "the SDK's folder")
	flag.Parse()
	// The generator reads the Pulumi.yaml above the working directory, and would look there
	// for the plugins that it names.
	for _, path := range []*string{file, out} {
		*path, _ = filepath.Abs(*path)
	}
	os.Chdir(os.TempDir())
	if err := run(*file, *version, *out); err != nil {
		fmt.Fprintln(os.Stderr, "java: "+err.Error())
		os.Exit(1)
	}
}

func run(file, version, out string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var spec schema.PackageSpec
	if err := json.Unmarshal(data, &spec); err != nil {
		return err
	}
	spec.Version = version
	var info java.PackageInfo
	if err := json.Unmarshal(spec.Language["java"], &info); err != nil {
		return err
	}
	info.BuildFiles = "" // Gradle's
	if spec.Language["java"], err = json.Marshal(info); err != nil {
		return err
	}
	pkg, err := schema.ImportSpec(spec, nil)
	if err != nil {
		return err
	}
	files, err := java.GeneratePackage("bulkhead's sdk/gen", pkg, nil, false)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := template.Must(template.New("pom.xml").Parse(pom)).Execute(&text, map[string]any{"Spec": spec, "Info": info}); err != nil {
		return err
	}
	files["pom.xml"] = text.Bytes()
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	for name, data := range files {
		path := filepath.Join(out, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			return err
		}
	}
	return nil
}
