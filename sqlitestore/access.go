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

// opening is held by the goroutine of this process that opens a file. makeFile closes
// a file, and closing any descriptor of a file drops all locks that the process has on
// it. So no connection may have the file open by then.
//
//nolint:gochecknoglobals // locks are the process's
var opening = make(chan struct{}, 1)

// openFile opens the file at path, whose data source is name, for writing. It makes
// the file if it is missing.
func openFile(ctx context.Context, path, name string) (*conn, error) {
	select {
	case opening <- struct{}{}:
		defer func() { <-opening }()
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for another opening in this process: %w", ctx.Err())
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
	// Reading would make -wal and -shm as files of this user, which the owner of the
	// file may not be able to write.
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

// makeFile makes an empty file if there is none. Its mode follows the umask; the engine
// would make a file that only its owner can write.
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

// An accessError names a file that this process cannot write, and its owner.
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
		path = target // the other files are beside it
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

// noRoom reports whether the disk has no room for another file in dir.
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
