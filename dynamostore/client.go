package dynamostore

import (
	"net"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/zeroae/zael/internal/awsquirks"
)

const (
	idleConns     = 256              // kept open to the table
	dialTimeout   = time.Second      // of a connection
	tlsTimeout    = 2 * time.Second  // of its handshake
	headerTimeout = 10 * time.Second // of a call without a deadline of its own
)

// NewClient returns a client for New as dynamodb.NewFromConfig does, with what a limiter
// needs and the SDK's defaults lack: 256 connections stay open (10, so that 64 callers
// keep making new ones), a connection that cannot be made is given up after a second
// (30), and a call that is never answered after 10 seconds (never).
//
// The client logs nothing unless cfg has a logger of the program's own, or sets
// ClientLogMode; what cfg.Credentials log is up to cfg. An HTTP client in cfg that is not
// the SDK's own stays as it is. optFns come last.
func NewClient(cfg aws.Config, optFns ...func(*dynamodb.Options)) *dynamodb.Client {
	cfg.Logger = awsquirks.Logger(&cfg)
	c, ok := cfg.HTTPClient.(*awshttp.BuildableClient)
	if !ok && cfg.HTTPClient != nil {
		return dynamodb.NewFromConfig(cfg, optFns...)
	}
	if c == nil {
		c = awshttp.NewBuildableClient()
	}
	cfg.HTTPClient = awsquirks.PlainBodies(c.WithDialerOptions(func(d *net.Dialer) {
		d.Timeout = dialTimeout
	}).WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConns, t.MaxIdleConnsPerHost = idleConns, idleConns
		t.TLSHandshakeTimeout = tlsTimeout
		t.ResponseHeaderTimeout = headerTimeout
	}))
	return dynamodb.NewFromConfig(cfg, optFns...)
}
