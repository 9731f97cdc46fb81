package cli

import (
	"context"
	"fmt"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
)

// openDynamo is the table that a URL like
// "dynamodb://my-app?region=eu-central-1&endpoint=http://127.0.0.1:8000" names, and
// how to reach it.
func openDynamo(ctx context.Context, address string) (cfg aws.Config, table, namespace string, err error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "dynamodb" || u.Host == "" {
		return cfg, "", "", usagef("--store %q is no DynamoDB table: write it like dynamodb://my-app?region=eu-central-1", address)
	}
	settings := u.Query()
	var options []func(*config.LoadOptions) error
	if region := settings.Get("region"); region != "" {
		options = append(options, config.WithRegion(region))
	}
	if cfg, err = config.LoadDefaultConfig(ctx, options...); err != nil {
		return cfg, "", "", fmt.Errorf("reading the AWS settings: %w", err)
	}
	if endpoint := settings.Get("endpoint"); endpoint != "" {
		cfg.BaseEndpoint = aws.String(endpoint)
	}
	return cfg, "ZAEL-" + strings.TrimPrefix(u.Host, "ZAEL-"), settings.Get("namespace"), nil
}
