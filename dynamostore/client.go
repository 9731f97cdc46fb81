package dynamostore

import (
	"net"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/zeroae/zael/internal/plainbody"
)

const (
	idleConns     = 256              // kept open to the table
	dialTimeout   = time.Second      // of a connection
	tlsTimeout    = 2 * time.Second  // of its handshake
	headerTimeout = 10 * time.Second // of a call without a deadline of its own
)

// NewClient makes a client for New as the library does, with what a limiter
// needs and its defaults lack: 256 connections stay open (10, so that 64 callers
// make new ones all the time), a connection that cannot be made is given up
// after a second (30), and a call that is never answered after 10 seconds (never).
// An HTTP client in cfg that is not the library's own stays as it is. optFns come
// last.
func NewClient(cfg aws.Config, optFns ...func(*dynamodb.Options)) *dynamodb.Client {
	c, ok := cfg.HTTPClient.(*awshttp.BuildableClient)
	if !ok && cfg.HTTPClient != nil {
		return dynamodb.NewFromConfig(cfg, optFns...)
	}
	if c == nil {
		c = awshttp.NewBuildableClient()
	}
	cfg.HTTPClient = plainbody.Client(c.WithDialerOptions(func(d *net.Dialer) {
		d.Timeout = dialTimeout
	}).WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConns, t.MaxIdleConnsPerHost = idleConns, idleConns
		t.TLSHandshakeTimeout = tlsTimeout
		t.ResponseHeaderTimeout = headerTimeout
	}))
	return dynamodb.NewFromConfig(cfg, optFns...)
}
