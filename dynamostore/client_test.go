package dynamostore_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael/dynamostore"
)

// 64 callers at a time need 64 connections, once: the library's default keeps 10
// of them.
func TestClientKeepsConnections(t *testing.T) {
	t.Parallel()
	const callers, rounds = 64, 5
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
