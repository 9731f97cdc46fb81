//go:build unix && !aix && !solaris

package pgtest

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/zeroae/zael/internal/testrig/child"
)

const (
	stopSignal = syscall.SIGSTOP
	goOnSignal = syscall.SIGCONT
)

// children returns the processes that a server has started. Each has a group of its own. On
// systems without /proc it returns none: there they end when they see that the server has.
func children(p *child.Process) (pids []int) {
	server := strconv.Itoa(p.Pid())
	text, err := os.ReadFile("/proc/" + server + "/task/" + server + "/children")
	if err != nil {
		return nil
	}
	for field := range strings.FieldsSeq(string(text)) {
		if pid, err := strconv.Atoi(field); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// signalAll sends a signal to a server and then to the processes that it has started.
func signalAll(p *child.Process, signal syscall.Signal) error {
	if err := syscall.Kill(p.Pid(), signal); err != nil {
		return err
	}
	for _, pid := range children(p) {
		if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return nil
}

// killAll kills a server and the processes that it has started, and waits for their end: the
// next server does not start before.
func killAll(p *child.Process) {
	_ = syscall.Kill(p.Pid(), syscall.SIGSTOP) // it starts no more
	pids := children(p)
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	p.Kill()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for _, pid := range pids {
		for syscall.Kill(pid, 0) == nil && !zombie(pid) {
			<-tick.C
		}
	}
}

// zombie reports whether a process has ended and nobody has asked how.
func zombie(pid int) bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	_, rest, found := strings.Cut(string(text), ") ")
	return err == nil && found && strings.HasPrefix(rest, "Z")
}
