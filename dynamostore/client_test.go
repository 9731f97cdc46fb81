package dynamostore_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go/logging"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore"
)

// 64 callers at a time need 64 connections, once: the library's default keeps 10
// of them.
func TestClientKeepsConnections(t *testing.T) {
	t.Parallel()
	const callers, rounds = 64, 3
	var connections atomic.Int64
	var together sync.WaitGroup // so that each round has all callers at once
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		together.Done()
		together.Wait()
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		_, _ = w.Write([]byte(`{"Item":{}}`))
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	c := dynamostore.NewClient(aws.Config{
		Region: "us-east-1", BaseEndpoint: aws.String(server.URL), Credentials: credentials.NewStaticCredentialsProvider("zael", "zael", ""),
	})
	for range rounds {
		together.Add(callers)
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				_, err := c.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: aws.String("t"), Key: map[string]types.AttributeValue{"PK": &types.AttributeValueMemberS{Value: "x"}}})
				if err != nil {
					t.Errorf("GetItem: got %v, want nil", err)
				}
			})
		}
		wg.Wait()
	}
	if got := connections.Load(); got > callers*3/2 { // one may come back a moment too late
		t.Errorf("connections in %d rounds of %d callers: got %d, want about as many as callers", rounds, callers, got)
	}
}

// The caller's own HTTP client and options stay.
func TestClientKeepsWhatIsGiven(t *testing.T) {
	t.Parallel()
	own := &http.Client{}
	cfg := aws.Config{Region: "us-east-1", HTTPClient: own}
	if got := dynamostore.NewClient(cfg).Options().HTTPClient; got != own {
		t.Errorf("HTTP client: got %T, want the one of the config", got)
	}
	c := dynamostore.NewClient(aws.Config{Region: "us-east-1"}, func(o *dynamodb.Options) { o.Region = "eu-central-1" })
	if got := c.Options().Region; got != "eu-central-1" {
		t.Errorf("region: got %s, want that of the option", got)
	}
}

// A program whose configuration is as config.LoadDefaultConfig makes it is not written to.
func TestClientLogsNothing(t *testing.T) {
	t.Parallel()
	c := dynamostore.NewClient(aws.Config{Region: "us-east-1", Logger: logging.NewStandardLogger(os.Stderr)})
	if got, ok := c.Options().Logger.(logging.Nop); !ok {
		t.Errorf("logger: got %T, want none", got)
	}
	own := logging.NewStandardLogger(io.Discard)
	if got := dynamostore.NewClient(aws.Config{Region: "us-east-1", Logger: own}).Options().Logger; got != own {
		t.Errorf("logger: got %T, want the program's own", got)
	}
}

// No credentials are no outage: to admit everybody would hide it. The SDK's last word is
// that the metadata service of EC2 is away.
func TestNoCredentialsAreNoOutage(t *testing.T) {
	t.Parallel()
	metadata := imds.New(imds.Options{Endpoint: "http://127.0.0.1:1", Retryer: aws.NopRetryer{}, ClientEnableState: imds.ClientEnabled})
	provider := ec2rolecreds.New(func(o *ec2rolecreds.Options) { o.Client = metadata })
	client := dynamostore.NewClient(aws.Config{Region: "eu-central-1", BaseEndpoint: aws.String("http://127.0.0.1:1"), Credentials: aws.NewCredentialsCache(provider)})
	for _, mode := range []zael.FailureMode{zael.FailClosed, zael.FailOpen} {
		s, err := dynamostore.New(client, "ZAEL-demo", patient())
		l, err2 := zael.New(opened(t, s, err), &zael.Config{FailureMode: mode, Timeout: time.Minute})
		if err2 != nil {
			t.Fatal(err2)
		}
		err = l.Allow(t.Context(), zael.Request{Entity: "e", Resource: "r", Limits: []zael.Limit{zael.PerSecond("rpm", 10)}, Consume: zael.Amounts{"rpm": 1}})
		if err == nil || errors.Is(err, zael.ErrUnavailable) || !strings.Contains(err.Error(), "there are no AWS credentials: set AWS_PROFILE") || strings.Contains(err.Error(), "operation error") {
			t.Errorf("mode %d: got %v, want what to set, and not that the table is unavailable", mode, err)
		}
	}
}

// A table is mostly missing where the wrong region or endpoint is asked.
func TestMissingTableIsNamed(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"__type":"com.amazonaws.dynamodb.v20120810#ResourceNotFoundException","message":"Requested resource not found"}`))
	}))
	t.Cleanup(server.Close)
	client := dynamostore.NewClient(aws.Config{
		Region: "eu-central-1", BaseEndpoint: aws.String(server.URL), Credentials: credentials.NewStaticCredentialsProvider("zael", "zael", ""),
	}, func(o *dynamodb.Options) { o.DisableValidateResponseChecksum = true })
	s, err := dynamostore.New(client, "ZAEL-demo", patient())
	s = opened(t, s, err)
	_, err = s.Entities(t.Context(), []string{"e"})
	if want := "no such table: ZAEL-demo in eu-central-1 at " + server.URL; !errors.Is(err, dynamostore.ErrNoTable) || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want ErrNoTable that says %q", err, want)
	}
}
