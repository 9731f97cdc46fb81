package awsquirks

import (
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go/logging"
)

// Logger returns the logger for clients of a configuration: its own, but none instead of
// the one to standard error that config.LoadDefaultConfig sets where nobody asked for
// one. That writes a line for what the caller is told by an error anyway, such as a call
// that was cancelled, and for what is harmless, such as the wrong checksum of DynamoDB
// Local's refusals. A configuration that sets ClientLogMode has asked for it.
func Logger(c *aws.Config) logging.Logger {
	standard, ok := c.Logger.(*logging.StandardLogger)
	if ok && c.ClientLogMode == 0 && standard.Logger.Writer() == os.Stderr {
		return logging.Nop{}
	}
	return c.Logger
}
