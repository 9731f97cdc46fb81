package ministack

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/zeroae/zael/internal/wheels"
)

// ErrMissing says that the tools cannot run here: Python is not installed, pip
// could not fetch them, or the system is no Unix. The error's text has the remedy.
var ErrMissing = errors.New("ministack is missing")

//go:embed engine/requirements.txt
var list []byte

// Install makes sure that ministack and cfn-lint are in the user's cache
// directory and returns the directory of the programs. Where they are missing it
// has pip fetch them, which takes up to a minute, and tells progress. Any number of
// processes may do so at once. Fails with ErrMissing.
func Install(ctx context.Context, progress io.Writer) (bin string, err error) {
	if !supported {
		return "", fmt.Errorf("%w: running it on this system: %w", ErrMissing, errors.ErrUnsupported)
	}
	dir, err := wheels.InCache("stack-tools")
	if err != nil {
		return "", err
	}
	if err := (&wheels.Set{Name: "ministack and cfn-lint", Dir: dir, List: list}).Install(ctx, progress); err != nil {
		return "", fmt.Errorf("%w: %w", ErrMissing, err)
	}
	return filepath.Join(dir, "bin"), nil
}
