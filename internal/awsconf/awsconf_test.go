package awsconf_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/awsconf"
	"github.com/zeroae/zael/internal/trial"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]awsconf.Address{
		"dynamodb://app":                       {Table: "ZAEL-app"},
		"dynamodb://ZAEL-app?region=eu-west-1": {Table: "ZAEL-app", Region: "eu-west-1"},
		"dynamodb://app?endpoint=http://localhost:8000&namespace=team-a&usage=true": {
			Table: "ZAEL-app", Endpoint: "http://localhost:8000", Store: dynamostore.Config{Namespace: "team-a", UsageCounted: true},
		},
		"dynamodb://app?virtual_time=1&count_units=t&endpoint=http%3A%2F%2F%5B%3A%3A1%5D": {
			Table: "ZAEL-app", Endpoint: "http://[::1]", Trial: trial.Options{VirtualTime: true, CountUnits: true},
		},
	} {
		want.URL = address
		if got, err := awsconf.Parse(address); err != nil || *got != want {
			t.Errorf("Parse(%q): got %+v and %v, want %+v", address, got, err, want)
		}
	}
	for address, reason := range map[string]string{
		"dynamodb:app":                                 "is not a store in DynamoDB",
		"dynamodb://":                                  "is empty",
		"dynamodb://a_b":                               "is not a letter and then",
		"dynamodb://app/x":                             "is not a letter and then",
		"dynamodb://app?%zz":                           "cannot be read",
		"dynamodb://app?regoin=x":                      `unknown setting, "regoin"`,
		"dynamodb://app?region=a&region=b":             "region more than once",
		"dynamodb://app?usage=maybe":                   `usage="maybe"`,
		"dynamodb://app?endpoint=127.0.0.1:8000":       `is not a URL like "http://`,
		"dynamodb://app?endpoint=ftp://127.0.0.1:8000": `is not a URL like "http://`,
		"dynamodb://app?namespace=a/b":                 "has namespace=a/b, which is not up to 64",
	} {
		_, err := awsconf.Parse(address)
		v, ok := errors.AsType[*zael.ValidationError](err)
		if !ok || v.Field != "store" || v.Value != address || !strings.Contains(v.Reason, reason) {
			t.Errorf("Parse(%q): got %v, want a *ValidationError of store that says %q", address, err, reason)
		}
	}
}

// TestLoad: region and credentials may be missing on this machine alone.
func TestLoad(t *testing.T) {
	for _, name := range []string{"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")

	_, err := awsconf.Load(t.Context(), "", "")
	if v, ok := errors.AsType[*zael.ValidationError](err); !ok || v.Field != "region" {
		t.Errorf("no region: got %v, want a *ValidationError of region", err)
	}
	_, err = awsconf.Load(t.Context(), "", "https://dynamodb.example.com")
	if v, ok := errors.AsType[*zael.ValidationError](err); !ok || v.Field != "region" {
		t.Errorf("no region, endpoint elsewhere: got %v, want a *ValidationError of region", err)
	}
	a, err := awsconf.Parse("dynamodb://app")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Open(t.Context()); err == nil || !strings.Contains(err.Error(), "names no region") {
		t.Errorf("Open: got %v, want that it names no region", err)
	}

	local, err := awsconf.Load(t.Context(), "", "http://127.0.0.1:8000")
	if err != nil || local.Region == "" || *local.BaseEndpoint != "http://127.0.0.1:8000" {
		t.Fatalf("local: got region %q and %v, want some region", local.Region, err)
	}
	if c, err := local.Credentials.Retrieve(t.Context()); err != nil || !c.HasKeys() {
		t.Errorf("local: got %v, want credentials", err)
	}
	far, err := awsconf.Load(t.Context(), "eu-west-1", "")
	if err != nil || far.Region != "eu-west-1" || far.BaseEndpoint != nil {
		t.Fatalf("eu-west-1: got region %q and %v", far.Region, err)
	}
	if _, err := far.Credentials.Retrieve(t.Context()); err == nil {
		t.Error("eu-west-1: got credentials, want none")
	}

	t.Setenv("AWS_REGION", "us-west-2")
	t.Setenv("AWS_ACCESS_KEY_ID", "mine")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	local, err = awsconf.Load(t.Context(), "", "http://localhost:8000")
	if err != nil || local.Region != "us-west-2" {
		t.Errorf("set: got region %q and %v, want the user's", local.Region, err)
	}
	if c, err := local.Credentials.Retrieve(t.Context()); err != nil || c.AccessKeyID != "mine" {
		t.Errorf("set: got %q and %v, want the user's credentials", c.AccessKeyID, err)
	}
}
