// Package rootcertificate has the custom resource RootCertificate: the certificate that agents
// trust, over a key that is in Key Vault and cannot leave it.
//
// The vault signs the certificate of its own key; nothing else ever sees the private half. The
// certificate is kept in the same vault as a secret that holds no secret, so that it outlives
// the state of a deployment: agents trust its fingerprint, and a second certificate over the
// same key would be as foreign to them as any other. What is found there over the same key is
// therefore taken over, not issued again.
package rootcertificate

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi-go-provider/infer"

	"github.com/bulkhead-dev/bulkhead/components/patience"
	"github.com/bulkhead-dev/bulkhead/gateway/ca"
)

// RootCertificate is the resource. The zero value is for the provider.
type RootCertificate struct {
	roles patience.Patience // zero: patience.Roles
}

// Args are its inputs.
type Args struct {
	VaultURI      string `pulumi:"vaultUri" provider:"replaceOnChanges"`
	KeyName       string `pulumi:"keyName" provider:"replaceOnChanges"`
	CommonName    string `pulumi:"commonName,optional"`
	ValidityYears int    `pulumi:"validityYears,optional"`
}

// State is its outputs, beside its inputs.
type State struct {
	Args
	PEM         string `pulumi:"pem"`
	Fingerprint string `pulumi:"fingerprint"`
	NotAfter    string `pulumi:"notAfter"`
	KeyVersion  string `pulumi:"keyVersion"`
	Stale       string `pulumi:"stale"`
}

// Annotate describes the resource.
func (r *RootCertificate) Annotate(a infer.Annotator) {
	a.SetToken("index", "RootCertificate")
	a.Describe(&r, "The certificate of an inspection CA's root, self-signed by a Key Vault key that cannot be exported. "+
		"It is stored beside the key as the secret `<keyName>-certificate`, which holds nothing secret. "+
		"A certificate that is already there over the same key is taken over, because agents trust its fingerprint. "+
		"Deleting the resource leaves that entry to the vault: it is deleted with it.\n\n"+
		"The deployer needs `Key Vault Crypto User` on the key, to sign, and `Key Vault Secrets Officer` on the vault, to store the certificate.")
}

// Annotate describes the inputs.
func (i *Args) Annotate(a infer.Annotator) {
	a.Describe(&i.VaultURI, "The vault's address, such as `https://NAME.vault.azure.net/`.")
	a.Describe(&i.KeyName, "The name of the vault's key: EC on the curve P-256, or RSA; `sign` is the only operation that it needs. The newest version signs.")
	a.Describe(&i.CommonName, "The name of the root in trust stores, at most 64 characters. Another name makes another certificate, which agents have to trust anew.")
	a.Describe(&i.ValidityYears, "How long the root is valid, in years of 365 days, from 1 to 20. Another number makes another certificate, which agents have to trust anew.")
	a.SetDefault(&i.CommonName, "Bulkhead inspection root")
	a.SetDefault(&i.ValidityYears, 10)
}

// Annotate describes the outputs.
func (s *State) Annotate(a infer.Annotator) {
	a.Describe(&s.PEM, "The certificate in PEM, for the agents' trust stores and for the gateway.")
	a.Describe(&s.Fingerprint, "The SHA-256 fingerprint of the certificate, in hexadecimal.")
	a.Describe(&s.NotAfter, "When the certificate expires (RFC 3339).")
	a.Describe(&s.KeyVersion, "The version of the key that the certificate is over.")
	a.Describe(&s.Stale, "Why the next update makes or stores a certificate, as a refresh found: empty while the certificate is good.")
}

const (
	suffix      = "-certificate"
	contentType = "application/x-pem-file"
	year        = 365 * 24 * time.Hour
)

// keyName is what Key Vault allows in one, as far as the secret's name leaves room.
var keyName = regexp.MustCompile(`^[0-9a-zA-Z-]{1,115}$`)

// Check refuses what no certificate can be made of.
func (r *RootCertificate) Check(ctx context.Context, req infer.CheckRequest) (infer.CheckResponse[Args], error) {
	in, failures, err := infer.DefaultCheck[Args](ctx, req.NewInputs)
	if err != nil {
		return infer.CheckResponse[Args]{}, err
	}
	fail := func(property, reason string, wrong bool) {
		if wrong && !req.NewInputs.Get(property).IsComputed() {
			failures = append(failures, p.CheckFailure{Property: property, Reason: reason})
		}
	}
	u, err := url.Parse(in.VaultURI)
	fail("vaultUri", "give the vault's address as https://NAME.vault.azure.net/", err != nil || u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil)
	fail("keyName", "a key's name has letters, digits and hyphens, at most 115 here", !keyName.MatchString(in.KeyName))
	fail("commonName", "give the root a name of at most 64 characters", in.CommonName == "" || len(in.CommonName) > 64)
	fail("validityYears", "let the root live from 1 to 20 years", in.ValidityYears < 1 || in.ValidityYears > 20)
	return infer.CheckResponse[Args]{Inputs: in, Failures: failures}, nil
}

// Create issues the certificate, or takes over the one that is there.
func (r *RootCertificate) Create(ctx context.Context, req infer.CreateRequest[Args]) (infer.CreateResponse[State], error) {
	if req.DryRun {
		return infer.CreateResponse[State]{Output: State{Args: req.Inputs}}, nil
	}
	s, err := r.ensure(ctx, req.Inputs, "", false)
	return infer.CreateResponse[State]{ID: id(req.Inputs), Output: s}, err
}

// Update issues the certificate anew where it must be another one, and else puts the one that
// agents trust back.
func (r *RootCertificate) Update(ctx context.Context, req infer.UpdateRequest[Args, State]) (infer.UpdateResponse[State], error) {
	if req.DryRun {
		s := req.State
		s.Args = req.Inputs
		return infer.UpdateResponse[State]{Output: s}, nil
	}
	another := req.Inputs.CommonName != req.State.CommonName || req.Inputs.ValidityYears != req.State.ValidityYears
	s, err := r.ensure(ctx, req.Inputs, req.State.PEM, another)
	return infer.UpdateResponse[State]{Output: s}, err
}

// Diff says what an update does to whom. It asks nobody.
func (r *RootCertificate) Diff(ctx context.Context, req infer.DiffRequest[Args, State]) (infer.DiffResponse, error) {
	old, in, log := req.State, req.Inputs, p.GetLogger(ctx)
	diff := map[string]p.PropertyDiff{}
	change := func(property string, kind p.DiffKind, changed, input bool) {
		if changed {
			diff[property] = p.PropertyDiff{Kind: kind, InputDiff: input}
		}
	}
	// In preview an address that is not known yet is empty: the vault changes or is replaced, and
	// the update itself asks again.
	change("vaultUri", p.Update, in.VaultURI == "", true)
	change("vaultUri", p.UpdateReplace, in.VaultURI != "" && trim(in.VaultURI) != trim(old.VaultURI), true)
	change("keyName", p.UpdateReplace, in.KeyName != old.KeyName, true)
	change("commonName", p.Update, in.CommonName != old.CommonName, true)
	change("validityYears", p.Update, in.ValidityYears != old.ValidityYears, true)
	notAfter, err := time.Parse(time.RFC3339, old.NotAfter)
	if err != nil {
		return infer.DiffResponse{}, fmt.Errorf("rootcertificate: notAfter in the state: %w", err)
	}
	left := time.Until(notAfter)
	change("pem", p.Update, old.Stale != "" || left <= 0, false)
	switch {
	case len(diff) > 0:
		why := old.Stale
		if why == "" {
			why = "its name, validity or key changes"
		}
		log.Warningf("the root certificate is made or stored again: %s. If its fingerprint changes from %s, what is decrypted fails in every agent that does not trust the new one yet.", why, old.Fingerprint)
	case left < min(year, time.Duration(old.ValidityYears)*year/2):
		log.Warningf("the root certificate expires at %s. Make a new version of the key %s and run `pulumi up --refresh`, or change commonName: either makes a new root. Have agents trust it before the gateway uses it.", old.NotAfter, old.KeyName)
	}
	return infer.DiffResponse{HasChanges: len(diff) > 0, DetailedDiff: diff}, nil
}

// Read finds a key that was rotated, a certificate that was replaced or taken away. For an
// import, the id is the secret's address.
func (r *RootCertificate) Read(ctx context.Context, req infer.ReadRequest[Args, State]) (infer.ReadResponse[Args, State], error) {
	gone := infer.ReadResponse[Args, State]{}
	in, s := req.Inputs, req.State
	if in.VaultURI == "" {
		vault, key, _ := strings.Cut(req.ID, "/secrets/")
		var ok bool
		if in.KeyName, ok = strings.CutSuffix(key, suffix); !ok {
			return gone, fmt.Errorf("rootcertificate: import by the secret's address, https://NAME.vault.azure.net/secrets/KEY%s, not %q", suffix, req.ID)
		}
		in.VaultURI = vault + "/"
	}
	v, err := r.open(in)
	if err != nil {
		return gone, err
	}
	signer, version, err := v.keys.Signer(ctx)
	if status(err) == http.StatusNotFound {
		return gone, nil
	}
	if err != nil {
		return gone, fmt.Errorf("rootcertificate: %w", err)
	}
	cert, err := v.stored(ctx)
	if err != nil {
		return gone, err
	}
	have := cert
	if have == nil { // taken away; what was issued is in the state
		if have, err = ca.ParseCertificate([]byte(s.PEM)); err != nil {
			return gone, nil // and there it is not either: an import of nothing
		}
	}
	if in.CommonName == "" {
		in.CommonName, in.ValidityYears = have.Subject.CommonName, int(have.NotAfter.Sub(have.NotBefore)/year)
	}
	s = describe(in, have, version)
	unusable := good(have, signer.Public())
	switch {
	case unusable != nil:
		s.Stale = unusable.Error()
		if version != req.State.KeyVersion && req.State.KeyVersion != "" {
			s.KeyVersion = req.State.KeyVersion
			s.Stale = fmt.Sprintf("the key was rotated to version %s, which the certificate is not over", version)
		}
	case cert == nil:
		s.Stale = "the vault's entry is gone"
	}
	return infer.ReadResponse[Args, State]{ID: id(in), Inputs: in, State: s}, nil
}

// store is the key and the entry beside it.
type store struct {
	keys    *ca.Vault
	secrets *azsecrets.Client
	name    string // of the entry
}

func (r *RootCertificate) open(in Args) (*store, error) {
	credential, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		return nil, fmt.Errorf("rootcertificate: %w", err)
	}
	v := &store{name: in.KeyName + suffix}
	if v.keys, err = ca.NewVault(in.VaultURI, in.KeyName, "", credential, nil); err != nil {
		return nil, err
	}
	if v.secrets, err = azsecrets.NewClient(in.VaultURI, credential, nil); err != nil {
		return nil, fmt.Errorf("rootcertificate: %w", err)
	}
	return v, nil
}

// ensure has the vault hold a certificate over the key's newest version: the vault's own, else
// the one of the state, else a new one. Another is one that neither may be.
func (r *RootCertificate) ensure(ctx context.Context, in Args, known string, another bool) (State, error) {
	v, err := r.open(in)
	if err != nil {
		return State{}, err
	}
	log := p.GetLogger(ctx)
	// Each step is one that a role may not have reached yet.
	wait := func(what, role string, try func(context.Context) error) error {
		how := r.roles
		if how == (patience.Patience{}) {
			how = patience.Roles
		}
		err := how.Until(ctx, func(s string) { log.InfoStatus(what + ": " + s) }, func(err error) bool { return patience.Refused(err) || errors.Is(err, errRecovering) }, try)
		if status(err) == http.StatusForbidden {
			why := "the deployer needs the role " + role + " in " + in.VaultURI
			if strings.Contains(detail(err), "ForbiddenByFirewall") {
				why = "the vault's firewall has to let the deployer's address in"
			}
			return fmt.Errorf("rootcertificate: %s: %w: %s. A change of it takes up to ten minutes: run `pulumi up` again then", what, err, why)
		}
		if err != nil {
			return fmt.Errorf("rootcertificate: %s: %w", what, err)
		}
		return nil
	}
	var signer crypto.Signer
	var version string
	if err := wait("reading the key", "Key Vault Crypto User (on the key)", func(ctx context.Context) (err error) {
		signer, version, err = v.keys.Signer(ctx)
		return err
	}); err != nil {
		return State{}, err
	}
	var cert *x509.Certificate
	recovering := false
	if err := wait("reading the certificate", "Key Vault Secrets Officer", func(ctx context.Context) (err error) {
		if cert, err = v.stored(ctx); err != nil || cert != nil {
			return err
		}
		if !recovering {
			if recovering, err = v.recover(ctx); err != nil {
				return err
			}
		}
		if recovering {
			return errRecovering
		}
		return nil
	}); err != nil {
		return State{}, err
	}
	if cert != nil && !another && good(cert, signer.Public()) == nil {
		if cert.Subject.CommonName != in.CommonName {
			log.Warningf("the vault has a certificate over the key %s already, named %q: agents trust it, so it stays", in.KeyName, cert.Subject.CommonName)
		}
		return describe(in, cert, version), nil
	}
	cert = nil
	if have, err := ca.ParseCertificate([]byte(known)); err == nil && !another && good(have, signer.Public()) == nil {
		cert = have
	}
	if cert == nil {
		if err := wait("signing the certificate", "Key Vault Crypto User (on the key)", func(context.Context) (err error) {
			cert, err = ca.SelfSign(signer, in.CommonName, time.Duration(in.ValidityYears)*year, time.Now())
			return err
		}); err != nil {
			return State{}, err
		}
	}
	s := describe(in, cert, version)
	err = wait("storing the certificate", "Key Vault Secrets Officer", func(ctx context.Context) error {
		_, err := v.secrets.SetSecret(ctx, v.name, azsecrets.SetSecretParameters{Value: &s.PEM, ContentType: to.Ptr(contentType)}, nil)
		return patience.Terse(err)
	})
	return s, err
}

// stored is the certificate of the vault's entry, nil if there is none.
func (v *store) stored(ctx context.Context) (*x509.Certificate, error) {
	got, err := v.secrets.GetSecret(ctx, v.name, "", nil)
	if status(err) == http.StatusNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("secret %q: %w", v.name, patience.Terse(err))
	}
	if got.Value == nil {
		return nil, fmt.Errorf("secret %q: no value", v.name)
	}
	cert, err := ca.ParseCertificate([]byte(*got.Value))
	if err != nil {
		return nil, fmt.Errorf("secret %q holds something else than a certificate, which is not overwritten: %w", v.name, err)
	}
	return cert, nil
}

// errRecovering is while a deleted entry comes back.
var errRecovering = errors.New("the deleted entry is being recovered")

// recover brings back an entry that a person deleted, if there is one: its name cannot be used
// otherwise, and what agents trust is in it.
func (v *store) recover(ctx context.Context) (bool, error) {
	_, err := v.secrets.RecoverDeletedSecret(ctx, v.name, nil)
	if status(err) == http.StatusNotFound {
		return false, nil
	}
	return err == nil, patience.Terse(err)
}

// good says why a certificate is not one that the key made of itself for a root.
func good(cert *x509.Certificate, public crypto.PublicKey) error {
	if err := ca.Usable(cert, public, time.Now()); err != nil {
		return err
	}
	return cert.CheckSignatureFrom(cert)
}

func describe(in Args, cert *x509.Certificate, version string) State {
	return State{Args: in, PEM: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})),
		Fingerprint: ca.Fingerprint(cert), NotAfter: cert.NotAfter.UTC().Format(time.RFC3339), KeyVersion: version}
}

func trim(uri string) string { return strings.TrimSuffix(uri, "/") }

func id(in Args) string { return trim(in.VaultURI) + "/secrets/" + in.KeyName + suffix }

func status(err error) int {
	var answer *azcore.ResponseError
	if errors.As(err, &answer) {
		return answer.StatusCode
	}
	return 0
}

// detail is all that the vault said.
func detail(err error) string {
	var answer *azcore.ResponseError
	if errors.As(err, &answer) {
		return answer.Error()
	}
	return ""
}
