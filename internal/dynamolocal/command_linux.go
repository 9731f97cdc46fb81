package dynamolocal

import (
	"context"
	"fmt"
	"os"
)

// commandLine is that of a process, its words ended by 0; "" when it has ended.
func commandLine(_ context.Context, pid int) string {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return ""
	}
	return string(line)
}
