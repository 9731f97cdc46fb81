package redistest

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

// ErrMissing says that a server cannot run here. The error's text has the remedy.
var ErrMissing = errors.New("the server is missing")

//go:embed engine/fetch engine/requirements.txt
var engine embed.FS

// install returns the path of a server's program, which is fetched if it is missing.
func install(ctx context.Context, kind Kind, progress io.Writer) (program string, err error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding the cache directory: %w", err)
	}
	dir := filepath.Join(cache, "zael", "valkey")
	if kind == Valkey && installed(dir) {
		return filepath.Join(dir, "valkey-server"), nil
	}
	files, err := os.MkdirTemp("", "zael-redistest-*")
	if err != nil {
		return "", fmt.Errorf("installing %s: %w", kind, err)
	}
	defer os.RemoveAll(files)
	if err := os.CopyFS(files, engine); err != nil {
		return "", fmt.Errorf("installing %s: %w", kind, err)
	}
	said, out := new(tail.Tail), new(bytes.Buffer)
	cmd := exec.CommandContext(ctx, "bash", filepath.Join(files, "engine", "fetch"), string(kind))
	cmd.Stdout, cmd.Stderr = out, io.MultiWriter(progress, said)
	cmd.WaitDelay = time.Second
	err = cmd.Run()
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("installing %s: %w", kind, ctx.Err())
	case errors.Is(err, exec.ErrNotFound):
		return "", fmt.Errorf("%w: no bash, which runs the script that installs it", ErrMissing)
	case err != nil:
		return "", fmt.Errorf("%w: %s", ErrMissing, strings.TrimSpace(said.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

// installed reports whether Valkey is in dir: the list is written last.
func installed(dir string) bool {
	want, err := engine.ReadFile("engine/requirements.txt")
	if err != nil {
		return false
	}
	have, err := os.ReadFile(filepath.Join(dir, "requirements.txt"))
	if err != nil || !bytes.Equal(want, have) {
		return false
	}
	_, err = exec.LookPath(filepath.Join(dir, "valkey-server"))
	return err == nil
}
