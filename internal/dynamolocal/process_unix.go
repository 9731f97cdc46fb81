//go:build unix && !aix && !solaris

package dynamolocal

import (
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/zeroae/zael/internal/tail"
)

// leash runs a program that does not outlive this process, however that ends:
// the process that waits at the pipe is told by the system. Its number is that of
// the program, and stays so while anyone waits there, as that of their group.
const leash = `temp=$1; shift
{ read -r _; kill -KILL $$; rm -rf "$temp"; } <&3 >/dev/null 2>&1 &
exec "$@" 3<&-`

// attached runs it for as long as this process lives.
func (p *program) attached() (*run, error) {
	temp, err := os.MkdirTemp("", "zael-dynamodb-*")
	if err != nil {
		return nil, err
	}
	held, holder, err := os.Pipe()
	if err != nil {
		_ = os.RemoveAll(temp)
		return nil, err
	}
	defer held.Close()
	log := new(tail.Tail)
	cmd := exec.Command("/bin/sh", append([]string{"-c", leash, "sh", temp}, p.command(temp)...)...) //nolint:noctx // it outlives the call
	cmd.Dir = temp
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{held}
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for this process
	return begin(cmd, log.String, func() {
		_ = holder.Close()
		_ = os.RemoveAll(temp)
	})
}

// killGroup has the end of cmd's context end all that it started.
func killGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
