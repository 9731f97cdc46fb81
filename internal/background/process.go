package background

import (
	"context"
	"os"
	"strings"
	"time"
)

const every = 20 * time.Millisecond // a look at what is waited for

// Find returns the process with a number, if its command line has a mark that no other has:
// another process can have got the number. Otherwise it returns nil. The caller must release it.
func Find(ctx context.Context, pid int, mark string) *os.Process {
	// The handle first: it stays that process's if the number becomes another's.
	p, err := os.FindProcess(pid)
	if err != nil {
		return nil
	}
	if !Lives(ctx, pid, mark) {
		_ = p.Release()
		return nil
	}
	return p
}

// Lives reports whether a process runs: see Find.
func Lives(ctx context.Context, pid int, mark string) bool {
	return pid > 0 && mark != "" && strings.Contains(CommandLine(ctx, pid), mark)
}

// AwaitEnd returns when a process has ended, or ctx is done.
func AwaitEnd(ctx context.Context, pid int, mark string) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for Lives(ctx, pid, mark) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}
