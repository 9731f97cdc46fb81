//go:build unix && !aix && !solaris

package child

import (
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/zeroae/zael/internal/tail"
)

// fileTooLarge is the signal of a write beyond a limit.
const fileTooLarge = syscall.SIGXFSZ

// leash runs a program in a group of its own that does not outlive this process,
// however that ends: the process that waits at the pipe is told by the system, and
// ends the group.
const leash = `{ read -r _; kill -KILL 0; } <&3 >/dev/null 2>&1 &
exec "$@" 3<&-`

// Start starts a program in a directory.
func Start(dir, program string, args ...string) (*Process, error) {
	return StartAs(os.Getuid(), dir, program, args...)
}

// StartAs is Start as another user, which root may do, of the group of the same number.
func StartAs(uid int, dir, program string, args ...string) (*Process, error) {
	held, holder, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer held.Close()
	p := &Process{log: new(tail.Tail), ended: make(chan struct{})}
	p.cmd = exec.Command("/bin/sh", append([]string{"-c", leash, "sh", program}, args...)...) //nolint:noctx // it outlives the call
	p.cmd.Dir = dir
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.ExtraFiles = []*os.File{held}
	p.cmd.WaitDelay = time.Second
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for this process
	if uid != os.Getuid() {
		p.cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)} //nolint:gosec // a user's number
	}
	if err := p.cmd.Start(); err != nil {
		_ = holder.Close()
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait() // ProcessState says it all
		_ = holder.Close()
		close(p.ended)
	}()
	return p, nil
}

// Kill ends it at once, and waits until it has ended.
func (p *Process) Kill() {
	select {
	case <-p.ended:
		return
	default:
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // ended by itself just now: no harm
	<-p.ended
}

// Pause stops it, and Resume lets it go on: its sockets stay open, and nothing answers.
func (p *Process) Pause() error { return syscall.Kill(p.cmd.Process.Pid, syscall.SIGSTOP) }

// Resume lets a process go on that was paused.
func (p *Process) Resume() error { return syscall.Kill(p.cmd.Process.Pid, syscall.SIGCONT) }

// Pid returns the number of the process.
func (p *Process) Pid() int { return p.cmd.Process.Pid }
