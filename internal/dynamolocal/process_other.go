//go:build !unix || aix || solaris

package dynamolocal

import (
	"errors"
	"os/exec"
)

// attached is not reached: check fails before.
func (p *program) attached() (*run, error) { return nil, errors.ErrUnsupported }

func killGroup(*exec.Cmd) {}
