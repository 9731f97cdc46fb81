//go:build unix && !linux && !aix && !solaris

package dynamolocal

import (
	"context"
	"os/exec"
	"strconv"
)

// commandLine is that of a process; "" when it has ended.
func commandLine(ctx context.Context, pid int) string {
	line, err := exec.CommandContext(ctx, "ps", "-ww", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return ""
	}
	return string(line)
}
