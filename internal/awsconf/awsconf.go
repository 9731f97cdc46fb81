// Package awsconf configures the AWS SDK: by a store's URL, or by region and endpoint.
package awsconf

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"regexp"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/smithy-go/logging"

	"github.com/zeroae/zael"
)

// localRegion is the region of an engine on this machine where none is named.
const localRegion = "us-east-1"

// Load reads the user's AWS configuration, with this region and endpoint where they are not
// empty. At an endpoint of this machine, where DynamoDB Local accepts any key, region and
// credentials may be missing. A *zael.ValidationError says that there is no region.
func Load(ctx context.Context, region, endpoint string) (aws.Config, error) {
	local, err := IsLocal(endpoint)
	if err != nil {
		return aws.Config{}, err
	}
	options := []func(*config.LoadOptions) error{config.WithRegion(region), config.WithLogger(logging.Nop{})} // what matters comes as an error
	if local {
		options = append(options, config.WithEC2IMDSClientEnableState(imds.ClientDisabled))
	}
	c, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return aws.Config{}, fmt.Errorf("reading the AWS configuration: %w", err)
	}
	if endpoint != "" {
		c.BaseEndpoint = aws.String(endpoint)
	}
	if local {
		if c.Region == "" {
			c.Region = localRegion
		}
		c.Credentials = aws.NewCredentialsCache(&orAny{c.Credentials})
	}
	if c.Region == "" {
		return aws.Config{}, CheckRegion(c)
	}
	return c, nil
}

// CheckRegion returns a *zael.ValidationError if the region is missing, or cannot be one.
// An emulator's may have any name that fits into a host name.
func CheckRegion(c aws.Config) error {
	shape := regexp.MustCompile(`^[a-z]{2,}(-[a-z]+)+-[0-9]+$`)
	if c.BaseEndpoint != nil {
		shape = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$`)
	}
	const remedy = "name one, such as eu-central-1, or set AWS_REGION or the profile's"
	switch {
	case c.Region == "":
		return &zael.ValidationError{Field: "region", Value: "", Reason: "is not set: " + remedy}
	case len(c.Region) > 63 || !shape.MatchString(c.Region):
		return &zael.ValidationError{Field: "region", Value: c.Region, Reason: "is not a region of AWS: " + remedy}
	}
	return nil
}

// IsLocal reports whether an endpoint is on this machine.
func IsLocal(endpoint string) (bool, error) {
	if endpoint == "" {
		return false, nil
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return false, &zael.ValidationError{
			Field: "endpoint", Value: endpoint, Reason: `is not a URL like "http://127.0.0.1:8000"`,
		}
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip.IsLoopback(), nil
}

// orAny provides credentials that a local engine accepts, if there are no others.
type orAny struct{ next aws.CredentialsProvider }

func (p *orAny) Retrieve(ctx context.Context) (aws.Credentials, error) {
	if p.next != nil {
		if c, err := p.next.Retrieve(ctx); err == nil {
			return c, nil
		}
	}
	return credentials.NewStaticCredentialsProvider("local", "local", "").Retrieve(ctx)
}
