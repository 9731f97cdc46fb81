package ministack

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/zeroae/zael/internal/tail"
)

// ErrMissing says that the tools cannot run here: Python is not installed, pip
// could not fetch them, or the system is no Unix. The error's text has the remedy.
var ErrMissing = errors.New("ministack is missing")

//go:embed engine/fetch engine/requirements.txt
var engine embed.FS

// Install makes sure that ministack and cfn-lint are in the user's cache
// directory and returns the directory of the programs. Where they are missing it
// has pip fetch them, which takes up to a minute, and tells progress. Any number of
// processes may do so at once. Fails with ErrMissing.
func Install(ctx context.Context, progress io.Writer) (bin string, err error) {
	if !supported {
		return "", fmt.Errorf("%w: running it on this system: %w", ErrMissing, errors.ErrUnsupported)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding the cache directory: %w", err)
	}
	dir = filepath.Join(dir, "zael", "stack-tools")
	bin = filepath.Join(dir, "bin")
	if installed(dir) {
		return bin, nil
	}
	files, err := os.MkdirTemp("", "zael-stack-tools-*")
	if err != nil {
		return "", fmt.Errorf("installing ministack: %w", err)
	}
	defer os.RemoveAll(files)
	if err := os.CopyFS(files, engine); err != nil {
		return "", fmt.Errorf("installing ministack: %w", err)
	}
	said := new(tail.Tail)
	cmd := exec.CommandContext(ctx, "bash", filepath.Join(files, "engine", "fetch"), dir)
	cmd.Stderr = io.MultiWriter(progress, said)
	cmd.WaitDelay = time.Second
	err = cmd.Run()
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("installing ministack: %w", ctx.Err())
	case errors.Is(err, exec.ErrNotFound):
		return "", fmt.Errorf("%w: no bash, which runs the script that installs it", ErrMissing)
	case err != nil:
		return "", fmt.Errorf("%w: %s", ErrMissing, strings.TrimSpace(said.String()))
	}
	return bin, nil
}

// installed reports whether the tools are in dir: the list is written last.
func installed(dir string) bool {
	want, err := engine.ReadFile("engine/requirements.txt")
	if err != nil {
		return false
	}
	have, err := os.ReadFile(filepath.Join(dir, "requirements.txt"))
	if err != nil || !bytes.Equal(want, have) {
		return false
	}
	_, err = exec.LookPath(filepath.Join(dir, "bin", "python"))
	return err == nil
}
