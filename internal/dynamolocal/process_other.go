//go:build !unix || aix || solaris

package dynamolocal

import (
	"context"
	"errors"
	"os/exec"
)

// supported is false: nothing below is reached.
const supported = false

func (p *program) attached() (*run, error) { return nil, errors.ErrUnsupported }

func detach(*exec.Cmd) {}

func killGroup(*exec.Cmd) {}

func lock(context.Context, string) (unlock func(), err error) { return nil, errors.ErrUnsupported }

func commandLine(context.Context, int) string { return "" }
