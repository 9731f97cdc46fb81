package sqlitestore_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"

	"github.com/zeroae/zael/internal/testrig/slotrig"
	"github.com/zeroae/zael/sqlitestore"
)

// slotsVariable makes the test binary a process that holds slots of a file.
const slotsVariable = "ZAEL_SQLITESTORE_SLOTS"

// holdSlots is a process that holds slots of a file.
func holdSlots(ctx context.Context, path string) error {
	s, err := sqlitestore.Open(ctx, path, nil)
	if err != nil {
		return err
	}
	return errors.Join(slotrig.Serve(ctx, s), s.Close(ctx))
}

// Processes on one file never hold more slots than there are, and the slots of those that
// are killed come back.
func TestSlotsOfProcesses(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("waits until holds end, 10 s: is a part of make check")
	}
	path := newPath(t)
	s := open(t, path, nil)
	slotrig.Run(t, func() *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), slotsVariable+"="+path, "GORACE=atexit_sleep_ms=0")
		return cmd
	}, s)
}
