package awsquirks_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/zeroae/zael/internal/awsquirks"
)

// The metadata service of EC2 refuses, is not there, or is silent: three machines without
// credentials. That DynamoDB itself is away is something else.
func TestCredentials(t *testing.T) {
	t.Parallel()
	over := make(chan struct{})
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-over:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(refusing.Close)
	t.Cleanup(silent.Close)
	t.Cleanup(func() { close(over) })
	const nobody = "http://127.0.0.1:1"
	metadata := func(endpoint string) aws.CredentialsProvider {
		client := imds.New(imds.Options{Endpoint: endpoint, Retryer: aws.NopRetryer{}, ClientEnableState: imds.ClientEnabled})
		return aws.NewCredentialsCache(ec2rolecreds.New(func(o *ec2rolecreds.Options) { o.Client = client }))
	}
	given := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "zael", SecretAccessKey: "zael"}, nil
	})
	for name, c := range map[string]struct {
		provider      aws.CredentialsProvider
		endpoint      string // of DynamoDB
		missing, late bool
	}{
		"refused":         {metadata(refusing.URL), nobody, true, false},
		"no such service": {metadata(nobody), nobody, true, false},
		"silent":          {metadata(silent.URL), nobody, false, true},
		"DynamoDB away":   {given, nobody, false, false},
		"DynamoDB silent": {given, silent.URL, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := dynamodb.New(dynamodb.Options{
				Region: "eu-central-1", Credentials: c.provider, BaseEndpoint: aws.String(c.endpoint), Retryer: aws.NopRetryer{},
			})
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			if c.missing {
				ctx, cancel = context.WithCancel(t.Context())
			}
			defer cancel()
			_, err := client.ListTables(ctx, nil)
			if got := awsquirks.CredentialsMissing(err); got != c.missing {
				t.Errorf("missing: got %t for %v, want %t", got, err, c.missing)
			}
			if got := awsquirks.CredentialsLate(err); got != c.late {
				t.Errorf("late: got %t for %v, want %t", got, err, c.late)
			}
		})
	}
}
