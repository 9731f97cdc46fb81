package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	sqlite "modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/storearg"
)

// dataSource returns the URI with which the engine opens the file at path.
func dataSource(path string) (string, error) {
	fail := func(reason string) (string, error) {
		return "", storearg.Invalid("path", path, reason)
	}
	switch {
	case path == "":
		return fail("is empty: name a file")
	case path == ":memory:":
		return fail("is no file: for a store in memory use package memstore")
	case strings.ContainsRune(path, 0):
		return fail("has a zero byte in it")
	}
	abs, err := filepath.Abs(path) // connections are opened later, when the working directory may have changed
	if err != nil {
		return "", fmt.Errorf("sqlitestore: %s: %w", path, err)
	}
	dir := filepath.Dir(abs)
	switch info, err := os.Stat(dir); {
	case errors.Is(err, os.ErrNotExist):
		return "", fmt.Errorf("sqlitestore: the directory %s does not exist: make it first: %w", dir, err)
	case err != nil:
		return "", fmt.Errorf("sqlitestore: the directory of %s: %w", path, err)
	case !info.IsDir():
		return "", fmt.Errorf("sqlitestore: %s is not a directory, so that %s cannot be in it", dir, path)
	}
	if info, err := os.Stat(abs); err == nil && !info.Mode().IsRegular() {
		return "", fmt.Errorf("sqlitestore: %s is not a plain file: name a file", path)
	}
	abs = filepath.ToSlash(abs)
	if !strings.HasPrefix(abs, "/") { // a drive letter
		abs = "/" + abs
	}
	return (&url.URL{Scheme: "file", Path: abs}).String(), nil
}

// openPool returns the pool of connections that read. It opens them when needed.
func openPool(name string) (*sql.DB, error) {
	// query_only instead of mode=ro: after a crash the first reader recovers the
	// write-ahead log.
	pool, err := sql.Open("sqlite", name+"?_pragma=busy_timeout(0)&_pragma=query_only(1)")
	if err != nil {
		return nil, err
	}
	pool.SetMaxOpenConns(readers)
	pool.SetMaxIdleConns(readers)
	return pool, nil
}

// openError returns the error of Open: what is wrong with the file, and the remedy.
func openError(path string, err error) error {
	switch code, _ := resultCode(err); {
	case code == lib.SQLITE_NOTADB:
		err = fmt.Errorf("it is not a SQLite file: name another one: %w", err)
	case code == lib.SQLITE_CORRUPT:
		err = fmt.Errorf("the file is damaged: restore a copy, or name another one: %w", err)
	case isFull(err), code == lib.SQLITE_CANTOPEN && noRoom(filepath.Dir(path)):
		err = fullError(err)
	case code == lib.SQLITE_READONLY, code == lib.SQLITE_PERM, code == lib.SQLITE_CANTOPEN:
		err = &accessError{"it cannot be opened for writing: " + err.Error(), err}
	default:
		err = engineError(err)
	}
	return fmt.Errorf("sqlitestore: %s: %w", path, err)
}

// fullError returns the error of a full disk.
func fullError(err error) error {
	return fmt.Errorf("the disk is full, nothing was changed: %w: %w", err, zael.ErrUnavailable)
}

// engineError makes an error of the engine match zael.ErrUnavailable if the file or
// the machine has failed, rather than the call.
func engineError(err error) error {
	code, known := resultCode(err)
	if !known {
		return err
	}
	switch code {
	case lib.SQLITE_FULL:
		return fullError(err)
	case lib.SQLITE_CORRUPT, lib.SQLITE_NOTADB:
		return fmt.Errorf("the file is damaged, restore a copy: %w: %w", err, zael.ErrUnavailable)
	case lib.SQLITE_BUSY, lib.SQLITE_LOCKED, lib.SQLITE_PROTOCOL, lib.SQLITE_IOERR, lib.SQLITE_NOMEM,
		lib.SQLITE_CANTOPEN, lib.SQLITE_READONLY: // possible since the store was opened
		return fmt.Errorf("%w: %w", err, zael.ErrUnavailable)
	}
	return err
}

// isLocked reports whether err is because of another connection, so that trying again
// may help.
func isLocked(err error) bool {
	switch code, _ := resultCode(err); code {
	case lib.SQLITE_BUSY, lib.SQLITE_LOCKED, lib.SQLITE_PROTOCOL:
		return true
	}
	return false
}

// resultCode returns the primary result code of an error of the engine. For a -shm that
// could not be made larger it is SQLITE_FULL.
func resultCode(err error) (code int, known bool) {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return 0, false
	}
	if e.Code() == lib.SQLITE_IOERR_SHMSIZE {
		return lib.SQLITE_FULL, true
	}
	return e.Code() & 0xff, true
}

// contextError returns the error of a call whose context is done.
func contextError(ctx context.Context, what string) error {
	return fmt.Errorf("sqlitestore: %s: %w", what, ctx.Err())
}
