//go:build unix

package sqlitestore_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/sqlitestore"
)

// visitVariable makes the test binary a visitor.
const visitVariable = "ZAEL_SQLITESTORE_VISIT"

// nobody is a user and a group without rights.
const nobody = 65534

// A visit is what a process of some user does: it opens a store, takes a token
// and closes the store.
type visit struct {
	uid, gid int
	umask    int
	bytes    int // that the visitor may write into one file; 0: any number
	path     string
}

func (v visit) String() string {
	return fmt.Sprintf("%d %d %d %d %s", v.uid, v.gid, v.umask, v.bytes, v.path)
}

// makeVisit is the visitor. It prints "took", or the error.
func makeVisit(ctx context.Context, text string) error {
	var v visit
	if _, err := fmt.Sscan(text, &v.uid, &v.gid, &v.umask, &v.bytes); err != nil {
		return err
	}
	v.path = strings.SplitN(text, " ", 5)[4]
	syscall.Umask(v.umask)
	if v.bytes > 0 {
		signal.Ignore(syscall.SIGXFSZ)
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: uint64(v.bytes), Max: uint64(v.bytes)}); err != nil {
			return err
		}
	}
	if os.Geteuid() == 0 && v.uid != 0 {
		if err := errors.Join(syscall.Setgroups([]int{v.gid}), syscall.Setgid(v.gid), syscall.Setuid(v.uid)); err != nil {
			return err
		}
	}
	s, err := sqlitestore.Open(ctx, v.path, nil)
	if err == nil {
		_, err = s.Take(ctx, t0, 0, ask(thousand, 1))
		err = errors.Join(err, s.Close(ctx))
	}
	switch {
	case err == nil:
		fmt.Println("took")
	case errors.Is(err, zael.ErrUnavailable):
		fmt.Println("unavailable:", err)
	default:
		fmt.Println(err)
	}
	return nil
}

// send runs the visitor and returns what it prints.
func (v visit) send(t *testing.T) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), visitVariable+"="+v.String(), "GORACE=atexit_sleep_ms=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// mustTake runs a visitor that has to take its token.
func (v visit) mustTake(t *testing.T, who string) {
	t.Helper()
	if got := v.send(t); got != "took" {
		t.Errorf("%s: got %q, want it to take a token", who, got)
	}
}

// commonDir returns a directory that other users can reach, with a mode and a group.
func commonDir(t *testing.T, mode os.FileMode, gid int) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(dir, 0, gid); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, mode); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(dir, 0o777) })
	return dir
}

// files returns the names of the files in a directory.
func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// twoUsers skips a test that needs two users where there can be only one.
func twoUsers(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOT COVERED: without root there is one user; TestOpenWithoutRights has what one can show")
	}
}

// A user without rights is told which file is in the way and whose it is, and
// leaves nothing behind.
func TestOpenWithoutRights(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		file, dir os.FileMode // of the store; 0: there is none
		want      []string
	}{
		{"a new file in a directory that cannot be written", 0, 0o555, []string{"cannot write DIR, which belongs to", "mode dr-xr-xr-x"}},
		{"a store in such a directory", 0o666, 0o555, []string{"cannot write DIR, which belongs to", "mode dr-xr-xr-x"}},
		{"a store that cannot be written", 0o444, 0o777, []string{"cannot write DIR/zael.db, which belongs to", "mode -r--r--r--"}},
		{"a store that cannot be read", 0o200, 0o777, []string{"cannot write DIR/zael.db, which belongs to", "mode --w-------"}},
		{"a store that can be written", 0o666, 0o777, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := commonDir(t, 0o777, 0)
			path := filepath.Join(dir, "zael.db")
			if tt.file != 0 {
				visit{umask: 0, path: path}.mustTake(t, "the owner")
				if err := os.Chmod(path, tt.file); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chmod(dir, tt.dir); err != nil {
				t.Fatal(err)
			}
			before := files(t, dir)
			got := visit{uid: nobody, gid: nobody, path: path}.send(t)
			if tt.want == nil {
				if got != "took" {
					t.Errorf("got %q, want it to take a token", got)
				}
				return
			}
			for _, want := range append(tt.want, path, "let this user read and write the file") {
				if want = strings.ReplaceAll(want, "DIR", dir); !strings.Contains(got, want) || strings.HasPrefix(got, "unavailable") {
					t.Errorf("got %q, want %q in it and nothing about unavailable", got, want)
				}
			}
			if after := files(t, dir); !slices.Equal(after, before) {
				t.Errorf("got the files %q afterwards, want those before, %q", after, before)
			}
		})
	}
}

// In a directory in which everybody may make files, another user who cannot
// write the store looks at it. The owner can go on.
func TestLookOfAnotherUser(t *testing.T) {
	t.Parallel()
	twoUsers(t)
	dir := commonDir(t, 0o777|fs.ModeSticky, 0)
	path := filepath.Join(dir, "p.db")
	owner, other := visit{uid: 1001, gid: 1001, umask: 0o022, path: path}, visit{uid: 1002, gid: 1002, umask: 0o022, path: path}
	owner.mustTake(t, "the owner")
	got := other.send(t)
	for _, want := range []string{"uid 1002", "cannot write " + path, "which belongs to uid 1001", "mode -rw-r--r--"} {
		if !strings.Contains(got, want) {
			t.Errorf("the other: got %q, want %q in it", got, want)
		}
	}
	if got := files(t, dir); !slices.Equal(got, []string{"p.db"}) {
		t.Errorf("afterwards: got the files %q, want the store alone", got)
	}
	owner.mustTake(t, "the owner, after the other")

	// Should another program have made them: the message says which, and whose.
	for _, end := range []string{"-wal", "-shm"} {
		write(t, path+end, "")
		if err := errors.Join(os.Chown(path+end, 1002, 1002), os.Chmod(path+end, 0o644)); err != nil {
			t.Fatal(err)
		}
		if got := owner.send(t); !strings.Contains(got, "cannot write "+path+end+", which belongs to uid 1002") {
			t.Errorf("%s of the other: got %q, want that it is in the way", end, got)
		}
		if err := os.Remove(path + end); err != nil {
			t.Fatal(err)
		}
	}
	owner.mustTake(t, "the owner, when they are gone")
}

// The umask decides the mode of the file, and so of what the engine makes beside it.
func TestUmask(t *testing.T) {
	t.Parallel()
	for umask, want := range map[int]os.FileMode{0: 0o666, 0o002: 0o664, 0o022: 0o644, 0o077: 0o600} {
		path := filepath.Join(commonDir(t, 0o777, 0), "zael.db")
		visit{umask: umask, path: path}.mustTake(t, fmt.Sprintf("umask %03o", umask))
		info, err := os.Stat(path)
		if err != nil || info.Mode() != want {
			t.Errorf("umask %03o: got mode %v (%v), want %v", umask, info.Mode(), err, want)
		}
	}
}

// Users of a group share a store, at the same time and one after the other.
func TestGroup(t *testing.T) {
	t.Parallel()
	twoUsers(t)
	const group = 2000
	dir := commonDir(t, 0o770|fs.ModeSetgid, group)
	path := filepath.Join(dir, "zael.db")
	one, two := visit{uid: 1001, gid: group, umask: 0o002, path: path}, visit{uid: 1002, gid: group, umask: 0o002, path: path}
	for range 2 {
		one.mustTake(t, "one")
		two.mustTake(t, "two")
	}
	held := open(t, path, nil) // with -wal and -shm, by a third user
	mustTake(t, held, t0, ask(thousand, 1))
	two.mustTake(t, "two, while the store is in use")
	one.mustTake(t, "one, while the store is in use")
	if got := taken(t, held, "alice", t0); got != 7 {
		t.Errorf("taken by all: got %d, want 7", got)
	}
}

// A disk is full when a store is opened. (The limit of what a process may write
// stands for the disk: the engine cannot make its -shm.)
func TestOpenOnFullDisk(t *testing.T) {
	t.Parallel()
	path := filepath.Join(commonDir(t, 0o777, 0), "zael.db")
	visit{path: path}.mustTake(t, "at first")
	if got := (visit{path: path, bytes: 1000}).send(t); !strings.HasPrefix(got, "unavailable: ") || !strings.Contains(got, path+": the disk is full") {
		t.Errorf("got %q, want zael.ErrUnavailable, and that the disk is full", got)
	}
	visit{path: path}.mustTake(t, "when there is room")
}
