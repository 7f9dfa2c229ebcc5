package azure

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	net "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v7"
)

// maxServiceTags bounds the list; it had 4 MB in November 2025.
const maxServiceTags = 64 << 20

// tagFile is the file "Azure IP Ranges and Service Tags", as far as anybody here reads it.
type tagFile struct {
	ChangeNumber int       `json:"changeNumber"`
	Cloud        string    `json:"cloud"`
	Values       []tagList `json:"values"`
}

type tagList struct {
	Name       string `json:"name"`
	ID         string `json:"id"`
	Properties struct {
		ChangeNumber    int      `json:"changeNumber"`
		Region          string   `json:"region"`
		SystemService   string   `json:"systemService"`
		AddressPrefixes []string `json:"addressPrefixes"`
	} `json:"properties"`
}

// ServiceTags asks Azure's resource manager for all service tags, which needs the action
// Microsoft.Network/locations/serviceTags/read in the subscription, and returns them in the format of the file that Microsoft
// publishes each week. Credential nil is the machine's managed identity. It is asked once: whoever calls tries again.
//
// The list is what security groups of that region know, a part of the file, and may be weeks older
// (https://learn.microsoft.com/azure/virtual-network/service-tags-overview#use-the-service-tag-discovery-api).
func ServiceTags(ctx context.Context, subscription, location string, credential azcore.TokenCredential, options azcore.ClientOptions) ([]byte, error) {
	if credential == nil {
		own, err := azidentity.NewManagedIdentityCredential(nil)
		if err != nil {
			return nil, fmt.Errorf("managed identity: %w", err)
		}
		credential = own
	}
	options.Retry.MaxRetries = -1
	if options.Transport == nil {
		options.Transport = http.DefaultClient
	}
	options.Transport = atMost{options.Transport, maxServiceTags}
	client, err := net.NewServiceTagsClient(subscription, credential, &arm.ClientOptions{ClientOptions: options})
	if err != nil {
		return nil, err
	}
	found, err := client.List(ctx, location, nil)
	if err != nil {
		return nil, terse(err)
	}
	if val(found.NextLink) != "" { // never seen; a part of the list would be taken for all of it
		return nil, errors.New("the resource manager answers with a part of its service tags, and this version reads them in one answer only")
	}
	out := tagFile{Cloud: val(found.Cloud), Values: []tagList{}}
	out.ChangeNumber, _ = strconv.Atoi(val(found.ChangeNumber)) // a number in a string, and of interest to people only
	for _, t := range found.Values {
		if t == nil || t.Properties == nil {
			continue
		}
		one := tagList{Name: val(t.Name), ID: val(t.ID)}
		one.Properties.ChangeNumber, _ = strconv.Atoi(val(t.Properties.ChangeNumber))
		one.Properties.Region, one.Properties.SystemService = val(t.Properties.Region), val(t.Properties.SystemService)
		for _, p := range t.Properties.AddressPrefixes {
			one.Properties.AddressPrefixes = append(one.Properties.AddressPrefixes, val(p))
		}
		out.Values = append(out.Values, one)
	}
	return json.Marshal(out)
}

// atMost breaks a response off behind a bound. It has to be the transport, because the SDK reads bodies whole before any
// policy of its caller sees them.
type atMost struct {
	policy.Transporter
	bytes int64
}

func (m atMost) Do(req *http.Request) (*http.Response, error) {
	resp, err := m.Transporter.Do(req)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, m.bytes)
	}
	return resp, err
}

// terse is an error in one line, with what the identity lacks where it is refused.
func terse(err error) error {
	var answer *azcore.ResponseError
	switch {
	case !errors.As(err, &answer):
		return errors.New(strings.Join(strings.Fields(err.Error()), " "))
	case answer.StatusCode == http.StatusForbidden:
		return fmt.Errorf("the resource manager answers 403 %s; the identity needs the action Microsoft.Network/locations/serviceTags/read in the subscription (a new assignment takes up to ten minutes)", answer.ErrorCode)
	}
	return fmt.Errorf("the resource manager answers %d %s", answer.StatusCode, answer.ErrorCode)
}
