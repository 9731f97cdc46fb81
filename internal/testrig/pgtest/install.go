package pgtest

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

// ErrMissing says that PostgreSQL cannot run here. The error's text has the remedy.
var ErrMissing = errors.New("PostgreSQL is missing")

//go:embed engine/fetch engine/requirements.txt
var engine embed.FS

// cacheDir is where fetch installs: root's own directory cannot be read by the user as whom
// the server runs.
func cacheDir() (string, error) {
	if os.Getuid() == 0 {
		return "/var/cache", nil
	}
	return os.UserCacheDir()
}

// install returns the directory of the programs, which are fetched if they are missing.
func install(ctx context.Context, progress io.Writer) (bin string, err error) {
	cache, err := cacheDir()
	if err != nil {
		return "", fmt.Errorf("finding the cache directory: %w", err)
	}
	if dir := filepath.Join(cache, "zael", "postgres"); installed(dir) {
		return filepath.Join(dir, "bin"), nil
	}
	return fetch(ctx, "postgres", progress)
}

// fetch runs the script that installs something, and returns what it prints: where that is.
func fetch(ctx context.Context, what string, progress io.Writer) (where string, err error) {
	files, err := os.MkdirTemp("", "zael-pgtest-*")
	if err != nil {
		return "", fmt.Errorf("installing "+what+": %w", err)
	}
	defer os.RemoveAll(files)
	if err := os.CopyFS(files, engine); err != nil {
		return "", fmt.Errorf("installing "+what+": %w", err)
	}
	said, out := new(tail.Tail), new(bytes.Buffer)
	cmd := exec.CommandContext(ctx, "bash", filepath.Join(files, "engine", "fetch"), what)
	cmd.Stdout, cmd.Stderr = out, io.MultiWriter(progress, said)
	cmd.WaitDelay = time.Second
	err = cmd.Run()
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("installing "+what+": %w", ctx.Err())
	case errors.Is(err, exec.ErrNotFound):
		return "", fmt.Errorf("%w: no bash, which runs the script that installs it", ErrMissing)
	case err != nil:
		return "", fmt.Errorf("%w: %s", ErrMissing, strings.TrimSpace(said.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

// installed reports whether the programs are in dir: the list is written last.
func installed(dir string) bool {
	want, err := engine.ReadFile("engine/requirements.txt")
	if err != nil {
		return false
	}
	have, err := os.ReadFile(filepath.Join(dir, "requirements.txt"))
	if err != nil || !bytes.Equal(want, have) {
		return false
	}
	_, err = exec.LookPath(filepath.Join(dir, "bin", "postgres"))
	return err == nil
}
