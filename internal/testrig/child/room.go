package child

import (
	"context"
	"fmt"
	"os/signal"
	"strconv"
	"strings"
)

// Unlimited is a size for LimitFiles.
const Unlimited = 0

// SurviveFullDisk has this process, and those that it starts from now on, ignore the signal that
// comes with the errors of LimitFiles.
func SurviveFullDisk() { signal.Ignore(fileTooLarge) }

// LimitFiles has files that processes of a user write be no longer than some bytes from now on. What
// exceeds that fails with EFBIG, as with ENOSPC on a full disk. Their children take it over. It works
// on Linux, by its program prlimit.
func LimitFiles(ctx context.Context, uid int, bytes uint64, pids ...int) error {
	size := "unlimited"
	if bytes != Unlimited {
		size = strconv.FormatUint(bytes, 10)
	}
	for _, pid := range pids {
		p, err := StartAs(uid, "/", "prlimit", "--pid="+strconv.Itoa(pid), "--fsize="+size+":")
		if err != nil {
			return err
		}
		select {
		case <-p.Ended():
		case <-ctx.Done():
			p.Kill()
			return ctx.Err()
		}
		if !p.Succeeded() && !strings.Contains(p.Log(), "No such process") { // it has just ended
			return fmt.Errorf("limiting the files of process %d: %s", pid, p.Log())
		}
	}
	return nil
}
