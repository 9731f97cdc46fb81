// Package wheels installs programs that come as Python packages, pinned by checksum: engines that
// tests run, and zael local.
package wheels

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/zeroae/zael/internal/background"
	"github.com/zeroae/zael/internal/tail"
)

// ErrMissing says that something cannot be installed here. The error's text has the remedy.
var ErrMissing = errors.New("a program is missing")

// A Set is what is installed together, into an environment of Python of its own.
type Set struct {
	Name string // of the programs, such as Envoy
	Dir  string // where they go; its parent is made
	List []byte // in the form of pip's requirements.txt, with hashes

	// After is called when pip has fetched all, and before the set counts as installed; it may
	// be nil.
	After func(context.Context) error
}

// InCache returns the path of a file or folder in zael's folder of the user's cache directory,
// which it makes.
func InCache(name string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding the cache directory: %w", err)
	}
	own := filepath.Join(cache, "zael")
	return filepath.Join(own, name), os.MkdirAll(own, 0o755)
}

// Install makes sure that the set is there, and tells progress if pip has to fetch it. Any
// number of processes may do so at once. The error matches ErrMissing if Python is missing
// or fails.
func (s *Set) Install(ctx context.Context, progress io.Writer) error {
	if s.Installed() {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(s.Dir), 0o755); err != nil {
		return err
	}
	unlock, err := background.Lock(ctx, s.Dir+".lock") // an environment cannot be moved: the second one waits
	if err != nil {
		return fmt.Errorf("installing %s: %w", s.Name, err)
	}
	defer unlock()
	if s.Installed() {
		return nil
	}
	fmt.Fprintf(progress, "installing %s by pip, once, into %s\n", s.Name, s.Dir)
	if err := os.RemoveAll(s.Dir); err != nil {
		return err
	}
	python := os.Getenv("PYTHON")
	if python == "" {
		python = "python3"
	}
	if err := s.run(ctx, progress, "install Python 3 with venv (on Debian the package python3-venv)", python, "-m", "venv", s.Dir); err != nil {
		return err
	}
	list := filepath.Join(s.Dir, "wanted.txt")
	if err := os.WriteFile(list, s.List, 0o644); err != nil {
		return err
	}
	err = s.run(ctx, progress, "pip could not fetch it", filepath.Join(s.Dir, "bin", "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
		"--no-deps", "--require-hashes", "--only-binary", ":all:", "--requirement", list)
	if err != nil {
		return err
	}
	if s.After != nil {
		if err := s.After(ctx); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrMissing, s.Name, err)
		}
	}
	return os.Rename(list, s.marker())
}

// Program returns the path of a program in a package of the set, such as envoy/_bin/envoy, which
// may be run.
func (s *Set) Program(name string) (string, error) {
	found, err := filepath.Glob(filepath.Join(s.Dir, "lib", "python*", "site-packages", filepath.FromSlash(name)))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("%w: %s: there are %d of %s in %s", ErrMissing, s.Name, len(found), name, s.Dir)
	}
	info, err := os.Stat(found[0])
	if err == nil && info.Mode()&0o111 != 0o111 {
		err = os.Chmod(found[0], 0o755)
	}
	return found[0], err
}

// marker is the list of what is installed: it is written last.
func (s *Set) marker() string { return filepath.Join(s.Dir, "installed.txt") }

// Installed reports whether the set is there, as it is listed.
func (s *Set) Installed() bool {
	have, err := os.ReadFile(s.marker())
	return err == nil && bytes.Equal(have, s.List)
}

// run runs a program, whose failure is an error with what it said.
func (s *Set) run(ctx context.Context, progress io.Writer, remedy, program string, args ...string) error {
	said := new(tail.Tail)
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = io.MultiWriter(progress, said), io.MultiWriter(progress, said)
	cmd.WaitDelay = 10 * time.Second
	switch err := cmd.Run(); {
	case ctx.Err() != nil:
		return fmt.Errorf("installing %s: %w", s.Name, ctx.Err())
	case err != nil:
		return fmt.Errorf("%w: %s: %s: %w: %s", ErrMissing, s.Name, remedy, err, said)
	}
	return nil
}
