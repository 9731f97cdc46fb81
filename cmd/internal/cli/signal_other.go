//go:build !unix

package cli

import (
	"os"
	"syscall"
)

// endSignals returns the signals on which the program cleans up and ends.
func endSignals() []os.Signal { return []os.Signal{os.Interrupt, syscall.SIGTERM} }

func moreSignals() []os.Signal { return nil }

// sentByTerminal returns true: only a console sends Ctrl-C, and to all its processes.
func sentByTerminal(os.Signal) bool { return true }

// codeOf returns the exit code of a process that ended.
func codeOf(state *os.ProcessState) int { return state.ExitCode() }
