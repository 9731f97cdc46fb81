package background

import (
	"context"
	"fmt"
	"os"
)

// CommandLine returns that of a process, its words ended by 0; "" when it has ended.
func CommandLine(_ context.Context, pid int) string {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return ""
	}
	return string(line)
}
