package awsquirks_test

import (
	"io"
	"os"
	"reflect"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go/logging"

	"github.com/zeroae/zael/internal/awsquirks"
)

// Only the logger that nobody asked for goes.
func TestLogger(t *testing.T) {
	t.Parallel()
	standard, own := logging.NewStandardLogger(os.Stderr), logging.NewStandardLogger(io.Discard)
	for name, c := range map[string]struct {
		config aws.Config
		want   logging.Logger
	}{
		"the SDK's":             {aws.Config{Logger: standard}, logging.Nop{}},
		"the SDK's, to be used": {aws.Config{Logger: standard, ClientLogMode: aws.LogRetries}, standard},
		"the program's":         {aws.Config{Logger: own}, own},
		"none":                  {aws.Config{}, nil},
	} {
		if got := awsquirks.Logger(&c.config); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %T, want %T", name, got, c.want)
		}
	}
}
