//go:build !unix

package cli

import (
	"os"
	"syscall"
)

// endSignals are those that end the program in good order.
func endSignals() []os.Signal { return []os.Signal{os.Interrupt, syscall.SIGTERM} }

func moreSignals() []os.Signal { return nil }

// sentByTerminal: a console sends Ctrl-C to all its processes, and there is no
// other way to send it.
func sentByTerminal(os.Signal) bool { return true }

// codeOf is the exit code of a process that ended.
func codeOf(state *os.ProcessState) int { return state.ExitCode() }
