package sqlitestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// opening is held by the one goroutine of this process that opens a file.
// makeFile closes a file, and with any descriptor of a file that is closed a
// process loses all locks on it: no connection may have it open by then.
//
//nolint:gochecknoglobals // locks are the process's
var opening = make(chan struct{}, 1)

// openFile opens the file at path for writing, and makes it if it is missing.
// name is its data source.
func openFile(ctx context.Context, path, name string) (*conn, error) {
	select {
	case opening <- struct{}{}:
		defer func() { <-opening }()
	case <-ctx.Done():
		return nil, contextError(ctx, "waiting to open the file")
	}
	if err := checkAccess(path); err != nil {
		return nil, err
	}
	if err := makeFile(path); err != nil {
		return nil, err
	}
	c, err := openConn(name)
	if err != nil {
		return nil, err
	}
	// Reading it would make its -wal and -shm, owned by a user that its owner may
	// not be able to write after.
	readOnly, err := c.readOnly()
	if err == nil && readOnly {
		err = &accessError{what: "it can only be read"}
	}
	if err != nil {
		_ = c.close()
		return nil, err
	}
	return c, nil
}

// makeFile makes an empty file if there is none. The umask decides its mode; the
// engine itself would make a file that only its owner can write.
func makeFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// An accessError says which file this process cannot write, and whose it is.
type accessError struct {
	what  string
	cause error
}

func (e *accessError) Error() string {
	return e.what + ": let this user read and write the file, -wal and -shm beside it and their directory, or name another file"
}

func (e *accessError) Unwrap() error { return e.cause }

// checkAccess returns an *accessError if this process cannot write the file at
// path, one of those beside it, or the directory of one that is missing.
func checkAccess(path string) error {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // beside which the others are
	}
	check := func(name string) error {
		if err := writable(name); err != nil {
			return &accessError{fmt.Sprintf("%s cannot write %s%s: %v", currentUser(), name, ownerOf(name), err), err}
		}
		return nil
	}
	missing := false
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		if _, err := os.Stat(name); err != nil {
			missing = true
		} else if err := check(name); err != nil {
			return err
		}
	}
	if missing {
		return check(filepath.Dir(path))
	}
	return nil
}

// noRoom reports whether the disk has no room for a file in a directory.
func noRoom(dir string) bool {
	f, err := os.CreateTemp(dir, ".zael-*")
	if err != nil {
		return isFull(err)
	}
	_ = f.Close()
	_ = os.Remove(f.Name())
	return false
}

// isFull reports whether err means that a disk, or a user's part of it, is full.
func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }
