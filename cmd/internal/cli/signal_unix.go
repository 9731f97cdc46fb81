//go:build unix

package cli

import (
	"os"
	"os/signal"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// endSignals returns the signals on which the program cleans up and ends. Signals that
// were ignored at its start, as by nohup, stay ignored.
func endSignals() []os.Signal {
	return notIgnored(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
}

// moreSignals returns the signals that are only passed on to a command.
func moreSignals() []os.Signal {
	return notIgnored(syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
}

func notIgnored(signals ...os.Signal) []os.Signal {
	return slices.DeleteFunc(signals, signal.Ignored)
}

// sentByTerminal reports whether the terminal also sent a signal to the command: it
// sends those of its keys to all processes in the foreground.
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

// codeOf returns the exit code of a process that ended.
func codeOf(state *os.ProcessState) int {
	if w, ok := state.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return exitSignal + int(w.Signal())
	}
	return state.ExitCode()
}
