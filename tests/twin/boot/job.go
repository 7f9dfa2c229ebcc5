package boot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/appcontainers/armappcontainers/v3"
)

// Execution is how one of a Container Apps job's ended.
type Execution struct {
	Status       armappcontainers.JobExecutionRunningState
	Began, Ended time.Time
	Replicas     []Replica // one for each try
}

// Replica is one try.
type Replica struct {
	ExitCode int    // -1: it was ended, because its time was over
	Output   string // what `az containerapp job logs show` would have
}

// maxOutput bounds what is kept of a replica's output.
const maxOutput = 64 << 10

// RunJob runs a job as its resource says: the command, arguments and environment of its container, as a process of the
// canary's machine, with that machine's network and resolver and nothing of this process's environment. A
// replica may take replicaTimeout seconds, and one that fails is followed by up to replicaRetryLimit others
// (learn.microsoft.com/azure/container-apps/jobs#job-settings).
//
// The container runtime alone is a stand-in: programs is the folder that the image would have in its PATH, no
// image is fetched, and files, user and limits are this machine's. So it does not prove that the image can be
// pulled from where the canary is.
func (s *Spoke) RunJob(ctx context.Context, body json.RawMessage, programs string) (Execution, error) {
	job, err := decode[armappcontainers.Job](body)
	if err != nil {
		return Execution{}, fmt.Errorf("boot: job: %w", err)
	}
	if s.Host(Canary) == nil {
		return Execution{}, errors.New("boot: job: there is no canary's machine")
	}
	if job.Properties == nil || job.Properties.Configuration == nil || job.Properties.Template == nil || len(job.Properties.Template.Containers) != 1 {
		return Execution{}, errors.New("boot: job: the lab runs jobs with a configuration and one container")
	}
	c, config := job.Properties.Template.Containers[0], job.Properties.Configuration
	if len(c.Command) == 0 || len(job.Properties.Template.InitContainers)+len(c.VolumeMounts) > 0 {
		return Execution{}, errors.New("boot: job: the lab knows no image's own command, no init containers and no volumes")
	}
	env := append([]string(nil), environment...)
	for _, v := range c.Env {
		if v.SecretRef != nil {
			return Execution{}, fmt.Errorf("boot: job: the lab has no secrets (%s)", deref(v.Name))
		}
		env = append(env, deref(v.Name)+"="+deref(v.Value))
	}
	var command []string
	for _, part := range append(append([]*string(nil), c.Command...), c.Args...) {
		command = append(command, deref(part))
	}
	command[0] = filepath.Join(programs, command[0])

	e := Execution{Status: armappcontainers.JobExecutionRunningStateFailed, Began: time.Now()}
	for range deref(config.ReplicaRetryLimit) + 1 {
		r, err := s.replica(ctx, time.Duration(deref(config.ReplicaTimeout))*time.Second, env, command)
		if err != nil {
			return Execution{}, err
		}
		e.Replicas = append(e.Replicas, r)
		if r.ExitCode == 0 {
			e.Status = armappcontainers.JobExecutionRunningStateSucceeded
			break
		}
	}
	e.Ended = time.Now()
	return e, nil
}

// replica runs a container once.
func (s *Spoke) replica(ctx context.Context, limit time.Duration, env, command []string) (Replica, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var out bytes.Buffer
	cmd := s.Host(Canary).Command(ctx, command[0], command[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, &out, &out
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && ctx.Err() == nil {
		return Replica{}, fmt.Errorf("boot: job: %w", err)
	}
	text := out.String()
	return Replica{ExitCode: cmd.ProcessState.ExitCode(), Output: strings.ToValidUTF8(text[:min(len(text), maxOutput)], "�")}, nil
}
