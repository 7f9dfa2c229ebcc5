package subscription

import (
	"context"
	"encoding/base64"
	"fmt"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"go.yaml.in/yaml/v3"

	ruleset "github.com/bulkhead-dev/bulkhead/gateway/policy"
	"github.com/bulkhead-dev/bulkhead/gateway/policyblob"
	"github.com/bulkhead-dev/bulkhead/tests/twin/arm"
	"github.com/bulkhead-dev/bulkhead/tests/twin/identity"
)

// StandIn starts a stand-in for what runs on every gateway's machine: it takes the ruleset
// from the blob that the machine's user data names, as the machine's identity, and reports
// its digest, both by the gateway's own code. It ends with ctx, and then closes done.
//
// It does not prove that a machine boots, that user data becomes a gateway, or that packets
// are governed: tests/twin/boot does.
func (s *Subscription) StandIn(ctx context.Context) (done chan struct{}) {
	done = make(chan struct{})
	go func() {
		defer close(done)
		running := map[string]*machine{}
		ticker := time.NewTicker(200 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			state, err := s.Control.State()
			if err != nil {
				continue
			}
			for id, r := range state.Resources {
				if !strings.EqualFold(r.Type, "Microsoft.Compute/virtualMachines") {
					continue
				}
				m := running[id]
				if m == nil || m.made != r.Made || m.userData != r.Hidden["userData"] {
					if m, err = s.standIn(state, r); err != nil {
						continue // it comes up without what it needs, and forwards nothing
					}
					running[id] = m
				}
				m.tick(ctx)
			}
		}
	}()
	return done
}

type machine struct {
	made     int
	userData string
	source   *policyblob.Source
	reporter *policyblob.Reporter
	reported policyblob.Report
}

// standIn reads what cloud-init would.
func (s *Subscription) standIn(state arm.State, r *arm.Resource) (*machine, error) {
	m := &machine{made: r.Made, userData: r.Hidden["userData"]}
	text, err := base64.StdEncoding.DecodeString(m.userData)
	if err != nil {
		return nil, err
	}
	var cloudConfig struct {
		WriteFiles []struct{ Path, Content string } `yaml:"write_files"`
	}
	if err := yaml.Unmarshal(text, &cloudConfig); err != nil {
		return nil, err
	}
	var config struct {
		Policy      struct{ Blob string }
		Attestation struct{ URL string }
	}
	for _, f := range cloudConfig.WriteFiles {
		if f.Path == "/etc/bulkhead/gateway.yaml" {
			if err := yaml.Unmarshal([]byte(f.Content), &config); err != nil {
				return nil, err
			}
		}
	}
	credential, err := s.identityOf(state, r)
	if err != nil {
		return nil, err
	}
	options := &blob.ClientOptions{ClientOptions: azcore.ClientOptions{Transport: s.Front.Client()}}
	if m.source, err = policyblob.Open(config.Policy.Blob, filepath.Dir(s.Control.Path()), credential, options); m.source == nil {
		return nil, err
	}
	m.reporter, err = policyblob.NewReporter(config.Attestation.URL, credential, options)
	return m, err
}

// tick polls once.
func (m *machine) tick(ctx context.Context) {
	if _, err := m.source.Fetch(ctx); err != nil {
		return
	}
	v := m.source.Latest()
	if v == nil {
		return
	}
	report := policyblob.Report{Version: "0.1.0-twin", Serial: v.Serial, Time: time.Now()}
	doc, err := ruleset.Decode(v.Document)
	if err == nil {
		var compiled *ruleset.Ruleset
		if compiled, err = ruleset.Compile(doc, ruleset.Environment{}); err == nil {
			report.Digest, report.Ready = compiled.Digest(), true
			err = m.source.Accept(v)
		}
	}
	if err != nil {
		report.Error = err.Error()
	}
	if last := m.reported; last.Digest == report.Digest && last.Error == report.Error && report.Time.Sub(last.Time) < 3*time.Second {
		return
	}
	if m.reporter.Write(ctx, report) == nil {
		m.reported = report
	}
}

// token is a machine's managed identity.
type token struct {
	service *identity.Service
	who     identity.Principal
}

func (t token) GetToken(_ context.Context, opts policy.TokenRequestOptions) (azcore.AccessToken, error) {
	text, err := t.service.Token(t.who, strings.TrimSuffix(opts.Scopes[0], "/.default"))
	return azcore.AccessToken{Token: text, ExpiresOn: time.Now().Add(time.Hour)}, err
}

func (s *Subscription) identityOf(state arm.State, vm *arm.Resource) (azcore.TokenCredential, error) {
	for id := range vm.Body.Object("identity", "userAssignedIdentities") {
		if r := state.Resources[strings.ToLower(id)]; r != nil {
			p := r.Body.Object("properties")
			return token{s.Identity, identity.Principal{Name: path.Base(id), ObjectID: p.Text("principalId"), ClientID: p.Text("clientId")}}, nil
		}
	}
	return nil, fmt.Errorf("%s has no identity", vm.ID)
}
