// Package sdks gives tests the SDKs of LLM providers for Python and Node. A test that needs
// them fails where they are missing, and is skipped with -short.
package sdks

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
	"testing"
	"time"

	"github.com/zeroae/zael/internal/tail"
	"github.com/zeroae/zael/internal/testrig/dynamotest"
)

// errMissing says that the SDKs cannot run here. The error's text has the remedy.
var errMissing = errors.New("the SDKs are missing")

//go:embed engine
var engine embed.FS

// Python returns a command that runs a program in Python, whose text it is given.
func Python(tb testing.TB, text string, args ...string) *exec.Cmd {
	tb.Helper()
	return command(tb, "python", "program.py", text, args)
}

// Node returns a command that runs a module of Node, whose text it is given.
func Node(tb testing.TB, text string, args ...string) *exec.Cmd {
	tb.Helper()
	return command(tb, "node", "program.mjs", text, args)
}

func command(tb testing.TB, program, name, text string, args []string) *exec.Cmd {
	tb.Helper()
	dynamotest.NotShort(tb)
	dir, err := install(tb.Context(), os.Stderr)
	if err != nil {
		tb.Fatalf("%v (go test -short leaves out the tests that need them)", err)
	}
	temp := tb.TempDir()
	file := filepath.Join(temp, name)
	// Node looks for packages beside the program.
	if err := errors.Join(os.WriteFile(file, []byte(text), 0o600), os.Symlink(filepath.Join(dir, "node_modules"), filepath.Join(temp, "node_modules"))); err != nil {
		tb.Fatal(err)
	}
	cmd := exec.CommandContext(tb.Context(), filepath.Join(dir, "bin", program), append([]string{file}, args...)...)
	// No proxy, and no key but those that a test sets.
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + temp, "PYTHONDONTWRITEBYTECODE=1", "NO_PROXY=*"}
	return cmd
}

// install makes sure that the SDKs are in the user's cache directory and returns where. Where
// they are missing they are fetched, which takes a minute. Any number of processes may do so at
// once.
func install(ctx context.Context, progress io.Writer) (dir string, err error) {
	files, err := os.MkdirTemp("", "zael-sdks-*")
	if err != nil {
		return "", fmt.Errorf("installing SDKs: %w", err)
	}
	defer os.RemoveAll(files)
	if err := os.CopyFS(files, engine); err != nil {
		return "", fmt.Errorf("installing SDKs: %w", err)
	}
	said, out := new(tail.Tail), new(bytes.Buffer)
	cmd := exec.CommandContext(ctx, "bash", filepath.Join(files, "engine", "fetch"))
	cmd.Stdout, cmd.Stderr = out, io.MultiWriter(progress, said)
	cmd.WaitDelay = time.Second
	err = cmd.Run()
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("installing SDKs: %w", ctx.Err())
	case errors.Is(err, exec.ErrNotFound):
		return "", fmt.Errorf("%w: no bash, which runs the script that installs them", errMissing)
	case err != nil:
		return "", fmt.Errorf("%w: %s", errMissing, strings.TrimSpace(said.String()))
	}
	return strings.TrimSpace(out.String()), nil
}
