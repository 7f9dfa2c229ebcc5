package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
)

// goProgram builds the project and runs it; Go's SDK reads the environment.
func goProgram(ctx context.Context, _ string, req *pulumirpc.RunRequest) (*exec.Cmd, error) {
	dir, err := os.MkdirTemp("", "pulumi-go-")
	if err != nil {
		return nil, err
	}
	binary := filepath.Join(dir, "program")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, entryPoint(req))
	build.Dir = programDirectory(req)
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build: %w\n%s", err, out)
	}
	return exec.CommandContext(ctx, binary), nil
}

// flags are the arguments that Node's and Python's runners take.
func flags(engine string, req *pulumirpc.RunRequest, dash string) []string {
	all := []string{
		"--monitor", req.GetMonitorAddress(), "--engine", engine,
		"--project", req.GetProject(), "--stack", req.GetStack(), "--pwd", programDirectory(req),
	}
	if req.GetDryRun() {
		all = append(all, "--dry"+dash+"run")
		if dash == "_" { // a flag there, a value here
			all = append(all, "true")
		}
	}
	return append(all, "--parallel", strconv.Itoa(int(req.GetParallel())), entryPoint(req))
}

// nodeProgram runs the runner that the npm package @pulumi/pulumi brings along. It compiles
// TypeScript by itself where the real host has told it to, which is by default.
func nodeProgram(ctx context.Context, engine string, req *pulumirpc.RunRequest) (*exec.Cmd, error) {
	for dir := programDirectory(req); ; dir = filepath.Dir(dir) {
		runner := filepath.Join(dir, "node_modules", "@pulumi", "pulumi", "cmd", "run")
		if _, err := os.Stat(runner); err == nil {
			cmd := exec.CommandContext(ctx, "node", append([]string{runner}, flags(engine, req, "-")...)...)
			cmd.Env = []string{"PULUMI_NODEJS_TYPESCRIPT=true"}
			return cmd, nil
		}
		if dir == filepath.Dir(dir) {
			return nil, fmt.Errorf("no node_modules/@pulumi/pulumi above %s", programDirectory(req))
		}
	}
}

// pythonProgram runs the runner that lies beside the real host. It is one file of the module
// github.com/pulumi/pulumi/sdk/v3, named by PULUMI_PYTHON_RUNNER.
func pythonProgram(ctx context.Context, engine string, req *pulumirpc.RunRequest) (*exec.Cmd, error) {
	python := "python3"
	if name := req.GetInfo().GetOptions().GetFields()["virtualenv"].GetStringValue(); name != "" {
		if !filepath.IsAbs(name) {
			name = filepath.Join(req.GetInfo().GetRootDirectory(), name)
		}
		python = filepath.Join(name, "bin", "python3")
	}
	return exec.CommandContext(ctx, python, append([]string{"-u", os.Getenv("PULUMI_PYTHON_RUNNER")}, flags(engine, req, "_")...)...), nil
}

// javaProgram runs the project's main class with Maven, offline; Java's SDK reads the
// environment.
func javaProgram(ctx context.Context, _ string, req *pulumirpc.RunRequest) (*exec.Cmd, error) {
	cmd := exec.CommandContext(ctx, "mvn", "--offline", "--quiet", "--no-transfer-progress", "compile", "exec:java")
	if opts := os.Getenv("MAVEN_OPTS"); !strings.Contains(opts, "TieredStopAtLevel") {
		cmd.Env = append(cmd.Env, "MAVEN_OPTS="+strings.TrimSpace(opts+" -XX:TieredStopAtLevel=1"))
	}
	return cmd, nil
}
