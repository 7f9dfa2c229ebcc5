package engine

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/apitype"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// TestInline runs a program in this process through all operations.
func TestInline(t *testing.T) {
	e := New(t)
	program := func(ctx *pulumi.Context) error {
		var box pulumi.ResourceState
		if err := ctx.RegisterComponentResource("twin:index:Box", "box", &box); err != nil {
			return err
		}
		ctx.Log.Warn("mind the gap", nil)
		ctx.Export("greeting", pulumi.String("hello"))
		return nil
	}
	s := e.Inline("inline", program)
	preview := s.Preview().OK()
	if got := preview.Changes[apitype.OpCreate]; got != 2 { // the stack and the box
		t.Errorf("preview creates %d resources, want 2\n%s", got, preview.Text)
	}
	if !preview.Says("warning", "mind the gap") {
		t.Errorf("no warning in %v", preview.Messages)
	}
	if up := s.Up().OK(); up.Step("box") == nil {
		t.Errorf("no step for the box in %v", up.Steps)
	}
	if got := s.Outputs()["greeting"]; got != "hello" {
		t.Errorf("greeting is %v", got)
	}
	s.Up().Unchanged()
	s.Refresh().Unchanged()
	s.Destroy().OK()
	if left := s.Resources(); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// TestProject runs a project by the command line, with the host of YAML programs.
func TestProject(t *testing.T) {
	e := New(t)
	dir := t.TempDir()
	write(t, dir, "Pulumi.yaml", `
name: yaml
runtime: yaml
config: {name: {type: string}}
outputs: {greeting: "hello ${name}"}
`)
	s := e.Project(dir)
	s.SetConfig("name", "world")
	s.Up().OK()
	if got := s.Outputs()["greeting"]; got != "hello world" {
		t.Errorf("greeting is %v", got)
	}
	s.Up().Unchanged()
}

// TestGoProject runs a project in Go by the stand-in of its host.
func TestGoProject(t *testing.T) {
	e := New(t)
	// The SDK is this module's, so the program is built within it.
	dir, err := os.MkdirTemp(filepath.Join(Root(), "bin", "twin"), "_program-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	write(t, dir, "Pulumi.yaml", "name: gopher\nruntime: go\n")
	write(t, dir, "main.go", `package main

import "github.com/pulumi/pulumi/sdk/v3/go/pulumi"

func main() {
	pulumi.Run(func(ctx *pulumi.Context) error {
		ctx.Export("stack", pulumi.String(ctx.Stack()))
		return nil
	})
}
`)
	s := e.Project(dir)
	s.Up().OK()
	if got := s.Outputs()["stack"]; got != "dev" {
		t.Errorf("stack is %v", got)
	}
}

// TestFailure tells why a program failed.
func TestFailure(t *testing.T) {
	e := New(t)
	s := e.Inline("failing", func(ctx *pulumi.Context) error { return os.ErrDeadlineExceeded })
	s.Up().Failed(os.ErrDeadlineExceeded.Error())
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
