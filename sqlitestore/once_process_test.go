package sqlitestore_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"

	"github.com/zeroae/zael/internal/testrig/oncerig"
	"github.com/zeroae/zael/sqlitestore"
)

// onceVariable makes the test binary a replica on a file.
const onceVariable = "ZAEL_SQLITESTORE_ONCE"

func serveOnce(ctx context.Context, path string) error {
	s, err := sqlitestore.Open(ctx, path, nil)
	if err != nil {
		return err
	}
	return errors.Join(oncerig.Serve(ctx, s), s.Close(ctx))
}

// TestKeysOfProcesses: callers that repeat with their idempotency keys what a replica that was killed has
// not answered are told exactly what is charged.
func TestKeysOfProcesses(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := open(t, path, nil)
	oncerig.Run(t, func() *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), onceVariable+"="+path, "GORACE=atexit_sleep_ms=0")
		return cmd
	}, s, 200)
}
