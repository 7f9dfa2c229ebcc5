// Package image is how a bare Linux machine becomes a gateway. Its parts are the systemd
// units and the release archive (`make bundle`) that holds them beside the binary, and the
// user data that fetches the archive: a #cloud-config document, the same bytes for the same
// input, with nothing secret in it.
//
// At its first boot cloud-init writes the document's files and starts bulkhead-setup, which
// fetches the release with the machine's own identity, unpacks it only if its SHA-256 is the
// one in the document, and starts the gateway. Until then the kernel forwards nothing; from
// the second boot on bulkhead-lockdown.service closes the machine before its network is up.
// bulkhead-setup looks for new user data every few minutes and applies it in the same way,
// because cloud-init reads user data once in a machine's life.
//
// On Azure the document belongs in the property userData, which can be updated while the
// machine runs, and not in osProfile.customData, which cannot be changed without a new
// machine (learn.microsoft.com/azure/virtual-machines/user-data). cloud-init reads userData
// from the metadata service where there is no customData (DataSourceAzure, since 21.2).
package image

import (
	"bytes"
	_ "embed"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/bulkhead-dev/bulkhead/gateway/config"
)

// Spec is what distinguishes one gateway from another.
type Spec struct {
	Address        netip.Addr     // the machine's static private address, where agents ask for names
	Agents         []netip.Prefix // whose packets are governed
	PinScope       string         // source, shared or verify; empty: source
	DNSClients     []netip.Prefix // resolvers that ask on behalf of agents; with the scope shared
	PolicyURL      string         // the ruleset's blob
	AttestationURL string         // the blob in which the gateway says what it enforces
	BundleURL      string         // the release archive's blob
	BundleSHA256   string         // its digest, 64 hexadecimal digits
	ClientID       string         // of the managed identity that reads and writes those blobs

	// The root behind decrypted flows: all three, or none of them.
	VaultURI, KeyName string
	RootCertificate   string // PEM

	// Discovery is where the machine asks Azure for its service tags; nil: it has none.
	Discovery *config.Discovery

	SSH bool // a key is installed: keep the SSH server, and the user that it lets in
}

// MaxUserData is Azure's limit for user data, which it counts in base64.
const MaxUserData = 64 << 10

//go:embed bulkhead-setup
var setup string

//go:embed bulkhead-setup.service
var setupService string

//go:embed bulkhead-setup.timer
var setupTimer string

// UserData renders the document. It refuses a spec that the gateway itself would refuse,
// so that the mistake is seen before there is a machine.
func UserData(s Spec) ([]byte, error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	gateway, err := s.gatewayConfig()
	if err != nil {
		return nil, err
	}
	body, err := marshal(s.cloudConfig(gateway))
	if err != nil {
		return nil, err
	}
	out := append([]byte("#cloud-config\n"), body...)
	if n := base64.StdEncoding.EncodedLen(len(out)); n > MaxUserData {
		return nil, fmt.Errorf("the user data has %d bytes in base64; Azure takes %d", n, MaxUserData)
	}
	return out, nil
}

var (
	hexDigest = regexp.MustCompile(`^[0-9a-f]{64}$`)
	guid      = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
	// blobURL has no place for a signature, a user or a quote that the shell would see.
	blobURL = regexp.MustCompile(`^https://[a-z0-9.-]+(/[A-Za-z0-9._-]+){2,}$`)
)

func (s Spec) validate() error {
	switch {
	case !s.Address.Is4():
		return fmt.Errorf("the gateway's address: %q is no IPv4 address", s.Address)
	case !blobURL.MatchString(s.BundleURL):
		return fmt.Errorf("the release's URL: %q is not https://ACCOUNT.blob.core.windows.net/CONTAINER/NAME; the managed identity reads it, so no signature belongs there", redacted(s.BundleURL))
	case s.AttestationURL == "":
		return errors.New("the attestation's URL: name the blob in which the gateway says what it enforces")
	case !hexDigest.MatchString(s.BundleSHA256):
		return fmt.Errorf("the release's digest: %q is not 64 lower-case hexadecimal digits of a SHA-256", s.BundleSHA256)
	case !guid.MatchString(s.ClientID):
		return fmt.Errorf("the identity's client id: %q is no GUID", s.ClientID)
	case (s.VaultURI == "") != (s.KeyName == ""), (s.VaultURI == "") != (s.RootCertificate == ""):
		return errors.New("decryption: give the vault, the key's name and the root's certificate, or none of them")
	}
	if s.RootCertificate != "" {
		return oneCertificate(s.RootCertificate)
	}
	return nil
}

// redacted is a URL without what may be secret in it.
func redacted(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "…"
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

// oneCertificate holds the root's PEM to a certificate and nothing else: a key beside it
// would be readable by every process of the machine.
func oneCertificate(text string) error {
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) > 0 || strings.Count(text, "-----BEGIN") != 1 {
		return errors.New("the root's certificate: give one PEM block of type CERTIFICATE, and nothing beside it")
	}
	return nil
}

// gatewayConfig renders /etc/bulkhead/gateway.yaml, in the keys of docs/reference/configuration.md.
func (s Spec) gatewayConfig() (string, error) {
	type (
		where struct {
			Blob string `yaml:"blob"`
		}
		report struct {
			URL string `yaml:"url"`
		}
		dns struct {
			Listen   string         `yaml:"listen"`
			PinScope string         `yaml:"pinScope,omitempty"`
			Clients  []netip.Prefix `yaml:"clients,omitempty,flow"`
		}
		ca struct {
			KeyVault string `yaml:"keyVault"`
			Key      string `yaml:"key"`
			File     string `yaml:"file"`
		}
	)
	type tags struct {
		Discovery *config.Discovery `yaml:"discovery,flow"`
	}
	type identity struct {
		ClientID string `yaml:"clientId"`
	}
	doc := struct {
		Identity    identity       `yaml:"identity"`
		Policy      where          `yaml:"policy"`
		Attestation report         `yaml:"attestation"`
		Agents      []netip.Prefix `yaml:"agents,flow"`
		DNS         dns            `yaml:"dns"`
		Egress      []string       `yaml:"egress,flow"`
		ServiceTags *tags          `yaml:"serviceTags,omitempty"`
		CA          *ca            `yaml:"ca,omitempty"`
	}{
		Identity:    identity{s.ClientID},
		Policy:      where{s.PolicyURL},
		Attestation: report{s.AttestationURL},
		Agents:      s.Agents,
		DNS:         dns{netip.AddrPortFrom(s.Address, 53).String(), s.PinScope, s.DNSClients},
		Egress:      Updates,
	}
	if s.Discovery != nil {
		doc.ServiceTags = &tags{s.Discovery}
	}
	if s.VaultURI != "" {
		doc.CA = &ca{strings.TrimSuffix(s.VaultURI, "/"), s.KeyName, rootFile}
	}
	out, err := marshal(doc)
	if err != nil {
		return "", err
	}
	if _, err := config.Parse(out); err != nil {
		return "", fmt.Errorf("the gateway's configuration: %w", err)
	}
	return string(out), nil
}

// Updates are where Ubuntu's images on Azure get security fixes from: what the gateway
// reaches and resolves for itself, beside its vault and its storage account.
var Updates = []string{"azure.archive.ubuntu.com", "security.ubuntu.com"}

func marshal(v any) ([]byte, error) {
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return out.Bytes(), enc.Close()
}
