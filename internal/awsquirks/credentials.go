package awsquirks

import (
	"context"
	"errors"
	"strings"

	"github.com/aws/smithy-go"
)

// What an error says whose call was not sent for want of credentials.
const (
	NoCredentials   = "there are no AWS credentials: " + setThem
	LateCredentials = "no AWS credentials were found in time: " + setThem

	setThem = "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
)

// CredentialsMissing reports whether err says that no credentials were found. The SDK
// looks for them in the environment, in files, and last in the metadata service of EC2
// (IMDS). So a failure of that service says that they are nowhere, and is no outage of
// the service that was to be called.
func CredentialsMissing(err error) bool {
	for {
		op, ok := errors.AsType[*smithy.OperationError](err)
		switch {
		case !ok:
			return false
		case op.ServiceID == "ec2imds":
			return true
		}
		err = op.Err
	}
}

// CredentialsLate reports whether the context of a call ended while the SDK looked for
// credentials, so that the call was not sent.
func CredentialsLate(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) && strings.Contains(err.Error(), "get identity: ") // the SDK has no type for it
}
