//go:build !unix || aix || solaris

package background

import (
	"context"
	"errors"
	"os/exec"
)

// Supported is false: nothing below is reached.
const Supported = false

func detach(*exec.Cmd) {}

// As does nothing.
func As(*exec.Cmd, int, int) {}

// Lock fails.
func Lock(context.Context, string) (unlock func(), err error) { return nil, errors.ErrUnsupported }

// CommandLine knows of no process.
func CommandLine(context.Context, int) string { return "" }
