package awsconf

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/redact"
	"github.com/zeroae/zael/internal/trial"
)

// Scheme is what URLs of stores in DynamoDB begin with.
const Scheme = "dynamodb://"

// An Address is the URL of a store in DynamoDB, parsed.
type Address struct {
	URL      string
	Table    string // ZAEL-NAME
	Region   string // empty: as the user's configuration says
	Endpoint string // empty: of AWS
	Store    dynamostore.Config
	Trial    trial.Options
}

// Parse reads dynamodb://NAME with its settings. The error is a
// *zael.ValidationError of store.
func Parse(address string) (*Address, error) {
	rest, ok := strings.CutPrefix(address, Scheme)
	if !ok {
		return nil, bad(address, `is not a store in DynamoDB: write it like "dynamodb://my-app?region=eu-central-1"`)
	}
	name, query, _ := strings.Cut(rest, "?")
	a := &Address{URL: address}
	var err error
	if a.Table, err = dynamostore.TableName(name); err != nil {
		shown, _, _ := strings.Cut(strings.TrimPrefix(redact.URL(address), Scheme), "?")
		return nil, within(address, fmt.Sprintf("has a name, %q, that", shown), err)
	}
	settings, err := url.ParseQuery(query)
	if err != nil {
		return nil, bad(address, "has settings that cannot be read: "+err.Error())
	}
	for key, values := range settings {
		if len(values) > 1 {
			return nil, bad(address, "has "+key+" more than once")
		}
		if err := a.set(key, values[0]); err != nil {
			return nil, err
		}
	}
	if _, err := IsLocal(a.Endpoint); err != nil {
		return nil, within(address, fmt.Sprintf("has endpoint=%s, which", a.Endpoint), err)
	}
	if err := a.Store.Validate(); err != nil {
		return nil, within(address, fmt.Sprintf("has namespace=%s, which", a.Store.Namespace), err)
	}
	return a, nil
}

func (a *Address) set(key, value string) (err error) {
	flag := func(to *bool) error {
		if *to, err = strconv.ParseBool(value); err != nil {
			return bad(a.URL, fmt.Sprintf("has %s=%q, which is not true or false", key, value))
		}
		return nil
	}
	switch key {
	case "region":
		a.Region = value
	case "endpoint":
		a.Endpoint = value
	case "namespace":
		a.Store.Namespace = value
	case "usage":
		return flag(&a.Store.UsageCounted)
	case "virtual_time":
		return flag(&a.Trial.VirtualTime)
	case "count_units":
		return flag(&a.Trial.CountUnits)
	default:
		return bad(a.URL, fmt.Sprintf("has an unknown setting, %q: there are region, endpoint, namespace, usage, virtual_time and count_units", key))
	}
	return nil
}

// Config returns an AWS configuration that reaches the table.
func (a *Address) Config(ctx context.Context) (aws.Config, error) {
	c, err := Load(ctx, a.Region, a.Endpoint)
	if _, ok := errors.AsType[*zael.ValidationError](err); ok {
		err = bad(a.URL, "names no region, and neither does your configuration: add ?region=eu-central-1 or whichever it is, or set AWS_REGION")
	}
	return c, err
}

// Client returns a client for the table, and makes no call.
func (a *Address) Client(ctx context.Context) (*dynamodb.Client, error) {
	c, err := a.Config(ctx)
	if err != nil {
		return nil, err
	}
	return dynamostore.NewClient(c, func(o *dynamodb.Options) {
		o.DisableValidateResponseChecksum = true // which DynamoDB Local gets wrong; TCP has its own
	}), nil
}

// Open opens the store, and makes no call.
func (a *Address) Open(ctx context.Context) (*dynamostore.Store, error) {
	client, err := a.Client(ctx)
	if err != nil {
		return nil, err
	}
	return dynamostore.NewTrial(client, a.Table, &a.Store, a.Trial)
}

func bad(address, reason string) error {
	return &zael.ValidationError{Field: "store", Value: redact.URL(address), Reason: reason}
}

// within returns the error of a part of a URL as one of the URL.
func within(address, part string, err error) error {
	if v, ok := errors.AsType[*zael.ValidationError](err); ok {
		return bad(address, part+" "+v.Reason)
	}
	return err
}
