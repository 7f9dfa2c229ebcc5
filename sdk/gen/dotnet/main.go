// Command dotnet writes the SDK of C#, F# and Visual Basic from schema.json. Its generator
// left the engine's module after v3.220.0, hence this module.
//
// Usage: cd sdk/gen/dotnet && go run . [-schema ../../../schema.json] [-version 0.1.0-dev] [-out ../../dotnet]
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"github.com/pulumi/pulumi/pkg/v3/codegen/dotnet"
	"github.com/pulumi/pulumi/pkg/v3/codegen/schema"
)

func main() {
	file := flag.String("schema", "../../../schema.json", "the package's schema")
	logo := flag.String("logo", "../../../docs/logo.png", "the package's picture")
	version := flag.String("version", "0.1.0-dev", "of the SDK, and of the plugin that it asks the engine for")
	out := flag.String("out", "../../dotnet", "the SDK's folder")
	flag.Parse()
	// The generator reads the Pulumi.yaml above the working directory, and would look there
	// for the plugins that it names.
	for _, path := range []*string{file, logo, out} {
		*path, _ = filepath.Abs(*path)
	}
	os.Chdir(os.TempDir())
	if err := run(*file, *logo, *version, *out); err != nil {
		fmt.Fprintln(os.Stderr, "dotnet: "+err.Error())
		os.Exit(1)
	}
}

func run(file, logo, version, out string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var spec schema.PackageSpec
	if err := json.Unmarshal(data, &spec); err != nil {
		return err
	}
	spec.Version = version
	spec.LogoURL = "file:///" + filepath.Base(logo)
	pkg, err := schema.ImportSpec(spec, nil, schema.ValidationOptions{})
	if err != nil {
		return err
	}
	// The generator fetches the picture; it is here.
	http.DefaultTransport.(*http.Transport).RegisterProtocol("file", http.NewFileTransport(http.Dir(filepath.Dir(logo))))
	files, err := dotnet.GeneratePackage("bulkhead's sdk/gen", pkg, nil, nil)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(out); err != nil {
		return err
	}
	for name, text := range files {
		path := filepath.Join(out, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}
