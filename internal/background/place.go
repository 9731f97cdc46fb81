// Package background keeps servers that run on after the program that started them: their files,
// whether they run, and their end.
package background

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/zeroae/zael/internal/tail"
)

// A Place is a directory with the state, the log and the lock of one server. Safe for concurrent
// use, by several processes too.
type Place struct {
	Dir  string // made if missing
	Name string // of the server, for errors
}

// UserDir returns a directory of this user, in the cache directory, for a Place.
func UserDir(name string) (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding the cache directory: %w", err)
	}
	return filepath.Join(dir, "zael", name), nil
}

// Path returns that of a file of the place.
func (p Place) Path(name string) string { return filepath.Join(p.Dir, name) }

// LogPath returns that of what the server wrote.
func (p Place) LogPath() string { return p.Path("log") }

func (p Place) statePath() string { return p.Path("state.json") }

// Lock waits until no other process starts or stops the server.
func (p Place) Lock(ctx context.Context) (unlock func(), err error) {
	if err := os.MkdirAll(p.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("%s: %w", p.Name, err)
	}
	if unlock, err = Lock(ctx, p.Path("lock")); err != nil {
		return nil, fmt.Errorf("waiting for another start or stop: %w", err)
	}
	return unlock, nil
}

// Read reads what Write has written. Without it, found is false.
func (p Place) Read(state any) (found bool, err error) {
	text, err := os.ReadFile(p.statePath())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("%s: %w", p.Name, err)
	}
	if err := json.Unmarshal(text, state); err != nil {
		return false, fmt.Errorf("reading %s: %w: end the process by hand and remove the file", p.statePath(), err)
	}
	return true, nil
}

// Write writes the state of the server, all of it or nothing.
func (p Place) Write(state any) error {
	text, err := json.MarshalIndent(state, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(p.Path("state.json.new"), append(text, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(p.Path("state.json.new"), p.statePath())
}

// Forget removes what a server that has ended leaves; not its log.
func (p Place) Forget() error {
	err := os.Remove(p.statePath())
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return err
}

// Start starts a process that outlives this one, and whose output is the log.
func (p Place) Start(cmd *exec.Cmd, start func(*exec.Cmd) error) error {
	log, err := os.OpenFile(p.LogPath(), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	detach(cmd)
	return start(cmd)
}

// LogEnd returns the end of the log.
func (p Place) LogEnd() string {
	text, err := os.ReadFile(p.LogPath())
	if err != nil {
		return ""
	}
	return string(text[max(0, len(text)-tail.Size):])
}
