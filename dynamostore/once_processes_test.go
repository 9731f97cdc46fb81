package dynamostore_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/testrig/dynamotest"
	"github.com/zeroae/zael/internal/testrig/oncerig"
)

// onceVariable makes the test binary a replica on a table.
const onceVariable = "ZAEL_DYNAMOSTORE_ONCE"

func serveOnce(ctx context.Context, table string) error {
	c, wire := clientOf(os.Getenv(dynamotest.EndpointVariable))
	defer wire.CloseIdleConnections()
	s, err := dynamostore.New(c, table, &dynamostore.Config{CallTimeout: time.Minute})
	if err != nil {
		return err
	}
	return errors.Join(oncerig.Serve(ctx, s), s.Close(ctx))
}

// TestKeysOfProcesses: callers that repeat with their idempotency keys what a replica that was killed has
// not answered are told exactly what is charged.
func TestKeysOfProcesses(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("thousands of calls")
	}
	c, _ := newClient(t)
	table := newTable(t, c)
	s, err := dynamostore.New(c, table, &dynamostore.Config{CallTimeout: time.Minute})
	opened(t, s, err)
	endpoint := engine.Endpoint(t)
	oncerig.Run(t, func() *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), onceVariable+"="+table, dynamotest.EndpointVariable+"="+endpoint, "GORACE=atexit_sleep_ms=0")
		return cmd
	}, s, 60) // each that is admitted is a transaction
}
