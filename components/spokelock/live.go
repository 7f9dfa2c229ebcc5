package spokelock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources"

	"github.com/bulkhead-dev/bulkhead/components/patience"
)

const (
	subnetVersion  = "2024-05-01"
	accountVersion = "2025-06-01"
	lookTime       = time.Minute
)

// subnet is what tells that a service sits in one. A Foundry account's link is called
// legionservicelink, and outlives the account until it is purged.
type subnet struct {
	Links []struct {
		Name string `json:"name"`
	} `json:"serviceAssociationLinks"`
}

// account is what tells where its agents are.
type account struct {
	Injections []struct {
		Scenario string `json:"scenario"`
		Subnet   string `json:"subnetArmId"`
	} `json:"networkInjections"`
}

// look says what is bound to the subnet, asking Azure's resource manager; nothing: nothing is.
func look(ctx context.Context, a Args) (why string, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	gone := ""
	if a.AccountID != nil {
		var of account
		found, err := get(ctx, *a.AccountID, accountVersion, &of)
		if err != nil {
			return "", fmt.Errorf("account: %w", err)
		}
		for _, i := range of.Injections {
			if found && strings.EqualFold(i.Subnet, a.AgentSubnetID) {
				return "the account " + *a.AccountID + " has its agents injected into it", nil
			}
		}
		if !found {
			gone = "; the account " + *a.AccountID + " is deleted, but the subnet is let go of some 20 minutes after it is purged: az cognitiveservices account purge"
		}
	}
	var of subnet
	if _, err := get(ctx, a.AgentSubnetID, subnetVersion, &of); err != nil {
		return "", fmt.Errorf("subnet: %w", err)
	}
	for _, l := range of.Links {
		return "the subnet has the service association link " + l.Name + gone, nil
	}
	return "", nil
}

// get reads the properties of a resource, if there is one.
func get(ctx context.Context, id, version string, into any) (found bool, err error) {
	parsed, err := arm.ParseResourceID(id)
	if err != nil {
		return false, err
	}
	credential, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		return false, patience.Terse(err)
	}
	client, err := armresources.NewClient(parsed.SubscriptionID, credential, nil)
	if err != nil {
		return false, patience.Terse(err)
	}
	got, err := client.GetByID(ctx, id, version, nil)
	var answer *azcore.ResponseError
	if errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound {
		return false, nil
	}
	if err != nil {
		return false, patience.Terse(err)
	}
	data, err := json.Marshal(got.Properties)
	if err != nil {
		return false, err
	}
	return true, json.Unmarshal(data, into)
}
