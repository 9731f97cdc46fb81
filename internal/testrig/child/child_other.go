//go:build !unix || aix || solaris

package child

import (
	"errors"
	"os"
)

// fileTooLarge is no signal of this system.
var fileTooLarge = os.Interrupt

// Start fails: processes cannot be tied to this one on this system.
func Start(string, string, ...string) (*Process, error) { return nil, errors.ErrUnsupported }

// StartAs fails like Start.
func StartAs(int, string, string, ...string) (*Process, error) { return nil, errors.ErrUnsupported }

// Kill is not reached.
func (p *Process) Kill() {}

// Pause is not reached.
func (p *Process) Pause() error { return errors.ErrUnsupported }

// Resume is not reached.
func (p *Process) Resume() error { return errors.ErrUnsupported }

// Pid is not reached.
func (p *Process) Pid() int { return 0 }
