//go:build unix && !aix && !solaris

package ministack

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

const supported = true

// leash runs a program in a group of its own that does not outlive this process,
// however that ends: the process that waits at the pipe is told by the system, and
// ends the group, the functions that the emulator runs included.
const leash = `temp=$1; shift
{ read -r _; rm -rf "$temp"; kill -KILL 0; } <&3 >/dev/null 2>&1 &
exec "$@" 3<&-`

// start runs it for as long as this process lives.
func (s *Server) start(bin string, port int, temp string) error {
	held, holder, err := os.Pipe()
	if err != nil {
		return err
	}
	defer held.Close()
	s.cmd = exec.Command("/bin/sh", "-c", leash, "sh", temp, filepath.Join(bin, "python"), "-m", "ministack") //nolint:noctx // it outlives the call
	s.cmd.Dir = temp
	s.cmd.Env = environment(port, temp)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	s.cmd.ExtraFiles = []*os.File{held}
	s.cmd.WaitDelay = time.Second
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for this process
	if err := s.cmd.Start(); err != nil {
		_ = holder.Close()
		return err
	}
	go func() {
		_ = s.cmd.Wait() // ProcessState says it all
		_ = holder.Close()
		_ = os.RemoveAll(temp)
		close(s.ended)
	}()
	return nil
}

// end ends the group.
func (s *Server) end() {
	select {
	case <-s.ended:
		return
	default:
	}
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) // ended by itself just now: no harm
	<-s.ended
}
