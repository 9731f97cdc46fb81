//go:build unix

package cli

import (
	"os"
	"os/signal"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// endSignals are those that end the program in good order. What was ignored when
// it began, as by nohup, stays so.
func endSignals() []os.Signal {
	return heeded(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
}

// moreSignals are those that zael has only to pass on.
func moreSignals() []os.Signal {
	return heeded(syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
}

func heeded(signals ...os.Signal) []os.Signal {
	return slices.DeleteFunc(signals, signal.Ignored)
}

// sentByTerminal tells whether a terminal sends a signal to the command as well:
// it sends those of its keys to all processes in the foreground.
func sentByTerminal(s os.Signal) bool {
	if s != syscall.SIGINT && s != syscall.SIGQUIT {
		return false
	}
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false // there is none
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// codeOf is the exit code of a process that ended.
func codeOf(state *os.ProcessState) int {
	if w, ok := state.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return exitSignal + int(w.Signal())
	}
	return state.ExitCode()
}
