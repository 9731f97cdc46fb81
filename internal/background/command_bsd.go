//go:build unix && !linux && !aix && !solaris

package background

import (
	"context"
	"os/exec"
	"strconv"
)

// CommandLine returns that of a process; "" when it has ended.
func CommandLine(ctx context.Context, pid int) string {
	line, err := exec.CommandContext(ctx, "ps", "-ww", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return ""
	}
	return string(line)
}
