//go:build !unix || aix || solaris

package pgtest

import (
	"errors"

	"github.com/zeroae/zael/internal/testrig/child"
)

const stopSignal, goOnSignal = 0, 0

func signalAll(*child.Process, int) error { return errors.ErrUnsupported }

func killAll(p *child.Process) { p.Kill() }

func children(*child.Process) []int { return nil }
