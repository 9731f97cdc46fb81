// Package awsquirks makes up for what the AWS SDK does otherwise than the programs
// built on zael need it.
package awsquirks

import (
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
)

// PlainBodies returns a client whose requests' bodies are readers and nothing more;
// nil stands for the SDK's own client.
//
// The SDK closes a request's body when the answer begins, while net/http may still
// check whether the body has ended. The body's WriteTo then returns io.EOF, which it
// must not (smithy-go 1.28.9, transport/http/internal/io): net/http takes that for a
// failure of the body and closes the connection under the answer that is being read. It
// happens with engines on the same machine, whose answer to a small request comes at once.
func PlainBodies(client aws.HTTPClient) aws.HTTPClient {
	if client == nil {
		client = awshttp.NewBuildableClient()
	}
	return plainBodies{client}
}

type plainBodies struct{ next aws.HTTPClient }

// Do sends a request.
func (p plainBodies) Do(r *http.Request) (*http.Response, error) {
	if r.Body != nil && r.Body != http.NoBody {
		r.Body = struct{ io.ReadCloser }{r.Body}
	}
	return p.next.Do(r)
}
