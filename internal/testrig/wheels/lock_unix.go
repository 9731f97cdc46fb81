//go:build unix && !aix && !solaris

package wheels

import (
	"context"
	"os"
	"syscall"
	"time"
)

// Lock waits until no other process has the file locked. The lock ends with unlock, or with
// this process.
func Lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
	return func() { _ = f.Close() }, nil
}
