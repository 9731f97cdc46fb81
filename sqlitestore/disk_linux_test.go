package sqlitestore_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/sqlitestore"
)

// smallDisk mounts a file system in memory. It skips the test where that is not
// allowed.
func smallDisk(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("NOT COVERED: mounting a small file system: %v; TestOpenOnFullDisk has a part of it", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmounting: %v", err)
		}
	})
	return dir
}

// wantFull expects that a store cannot be opened since the disk is full.
func wantFull(t *testing.T, what, path string) {
	t.Helper()
	s, err := sqlitestore.Open(t.Context(), path, nil)
	if err == nil {
		err = errors.Join(errors.New("it opened"), s.Close(t.Context()))
	}
	if !errors.Is(err, zael.ErrUnavailable) || !strings.Contains(err.Error(), path+": the disk is full") {
		t.Errorf("%s: got %v, want zael.ErrUnavailable, and that the disk is full", what, err)
	}
}

// use opens a store, takes a token and closes it.
func use(t *testing.T, path string) {
	t.Helper()
	s, err := sqlitestore.Open(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	mustTake(t, s, t0, ask(thousand, 1))
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A disk without room for any byte.
func TestOpenWithoutBytes(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t, "size=128k")
	path, filler := filepath.Join(dir, "zael.db"), filepath.Join(dir, "filler")
	use(t, path)
	if err := os.WriteFile(filler, make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("filling the disk: got %v, want that it is full", err)
	}
	wantFull(t, "a store that is there", path)
	wantFull(t, "a new one", filepath.Join(dir, "new.db"))
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	use(t, path)
	use(t, filepath.Join(dir, "new.db"))
}

// A disk without room for another file.
func TestOpenWithoutInodes(t *testing.T) {
	t.Parallel()
	const inodes = 6
	dir := smallDisk(t, fmt.Sprintf("size=1m,nr_inodes=%d", inodes))
	path := filepath.Join(dir, "zael.db")
	use(t, path)
	var fillers []string
	for i := range inodes - 2 { // the directory and the store have one each
		name := filepath.Join(dir, fmt.Sprint("filler-", i))
		write(t, name, "")
		fillers = append(fillers, name)
	}
	remove := func() {
		t.Helper()
		if err := os.Remove(fillers[0]); err != nil {
			t.Fatal(err)
		}
		fillers = fillers[1:]
	}
	wantFull(t, "a store that is there", path)
	wantFull(t, "a new one", filepath.Join(dir, "new.db"))
	remove()
	wantFull(t, "a store, with room for its -wal", path)
	wantFull(t, "a new one, with room for one file", filepath.Join(dir, "new.db"))
	for len(fillers) > 0 {
		remove()
	}
	use(t, path)
	use(t, filepath.Join(dir, "new.db"))
}
