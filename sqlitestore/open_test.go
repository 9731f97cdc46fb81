package sqlitestore_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/sqlitestore"
)

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// made returns the path of a closed store with some charges in it.
func made(t *testing.T) string {
	t.Helper()
	path := newPath(t)
	s, err := sqlitestore.Open(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		mustTake(t, s, t0, askOf(fmt.Sprint("entity-", i), thousand, 1))
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		path func(t *testing.T, dir string) string
		want string
	}{
		{"no path", func(*testing.T, string) string { return "" }, "name a file"},
		{"memory", func(*testing.T, string) string { return ":memory:" }, "use package memstore"},
		{"a zero byte", func(_ *testing.T, dir string) string { return dir + "/a\x00b" }, "zero byte"},
		{"a missing directory", func(_ *testing.T, dir string) string {
			return filepath.Join(dir, "missing", "zael.db")
		}, "does not exist: make it first"},
		{"a file for a directory", func(t *testing.T, dir string) string {
			t.Helper()
			write(t, filepath.Join(dir, "file"), "")
			return filepath.Join(dir, "file", "zael.db")
		}, "is not a directory"},
		{"a directory", func(_ *testing.T, dir string) string { return dir }, "is not a plain file"},
		{"a device", func(*testing.T, string) string { return os.DevNull }, "is not a plain file"},
		{"a short text", func(t *testing.T, dir string) string {
			t.Helper()
			write(t, filepath.Join(dir, "notes"), "not a database")
			return filepath.Join(dir, "notes")
		}, "it is not a SQLite file"},
		{"a long text", func(t *testing.T, dir string) string {
			t.Helper()
			write(t, filepath.Join(dir, "notes"), strings.Repeat("not a database\n", 10_000))
			return filepath.Join(dir, "notes")
		}, "it is not a SQLite file"},
		{"another program's", func(t *testing.T, dir string) string {
			t.Helper()
			run(t, filepath.Join(dir, "other.db"), "CREATE TABLE t (a)")
			return filepath.Join(dir, "other.db")
		}, "of another program"},
		{"another program's, in its header", func(t *testing.T, dir string) string {
			t.Helper()
			run(t, filepath.Join(dir, "other.db"), "PRAGMA application_id = 7; CREATE TABLE t (a); DROP TABLE t")
			return filepath.Join(dir, "other.db")
		}, "of another program"},
		{"a newer one", func(t *testing.T, _ string) string {
			t.Helper()
			path := made(t)
			run(t, path, "PRAGMA user_version = 99")
			return path
		}, "made by a newer zael (version 99 of the tables, this one knows 5): update this program"},
		{"an unknown version", func(t *testing.T, _ string) string {
			t.Helper()
			path := made(t)
			run(t, path, "PRAGMA user_version = 1")
			return path
		}, "version 1 of the tables, which this zael does not know"},
		{"a damaged one", func(t *testing.T, _ string) string {
			t.Helper()
			path := made(t)
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			copy(content[100:], bytes.Repeat([]byte{0xff}, len(content)-100))
			write(t, path, string(content))
			return path
		}, "the file is damaged"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := tt.path(t, t.TempDir())
			before, _ := os.ReadFile(path)
			s, err := sqlitestore.Open(t.Context(), path, nil)
			if err == nil {
				_ = s.Close(t.Context())
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || errors.Is(err, zael.ErrUnavailable) {
				t.Errorf("Open(%q): got %v, want %q, and not ErrUnavailable", path, err, tt.want)
			}
			if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
				t.Errorf("Open(%q): the file was changed", path)
			}
		})
	}
}

func TestOpenWithWrongConfig(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		config sqlitestore.Config
		field  string
	}{
		{sqlitestore.Config{Synchronous: 2}, "Config.Synchronous"},
		{sqlitestore.Config{Retention: time.Hour - 1}, "Config.Retention"},
		{sqlitestore.Config{Retention: -time.Hour}, "Config.Retention"},
	} {
		_, err := sqlitestore.Open(t.Context(), newPath(t), &tt.config)
		var invalid *zael.ValidationError
		if !errors.As(err, &invalid) || invalid.Field != tt.field {
			t.Errorf("Open with %+v: got %v, want a *zael.ValidationError about %s", tt.config, err, tt.field)
		}
	}
}

// No character of a path is special.
func TestPaths(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"a b.db", "a?mode=memory", "a#b", "a%b", "a%20b", "file:a", "a&b=c", "ünï 日本.db", "a'b\"c", "~", "a\\b", ":memory: ", "\xff.db",
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, name)
		s, err := sqlitestore.Open(t.Context(), path, nil)
		if err != nil {
			t.Errorf("Open(%q): got %v, want nil", path, err)
			continue
		}
		mustTake(t, s, t0, ask(thousand, 3))
		if n := taken(t, s, "alice", t0); n != 3 { // by another connection
			t.Errorf("Open(%q): got %d taken, want 3", path, n)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if files, err := os.ReadDir(dir); err != nil || len(files) != 1 || files[0].Name() != name {
			t.Errorf("Open(%q) and Close left %v and %v, want that file alone", path, files, err)
		}
	}
}

// An empty file counts as new. A process that dies while opening a file may leave one.
func TestOpenEmptyFile(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	write(t, path, "")
	mustTake(t, open(t, path, nil), t0, ask(thousand, 1))
	path = newPath(t)
	run(t, path, "PRAGMA journal_mode = WAL")
	mustTake(t, open(t, path, nil), t0, ask(thousand, 1))
}

// Many stores open a new file at once.
func TestOpenTogether(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	err := together(16, func(int) error {
		s, err := sqlitestore.Open(t.Context(), path, nil)
		if err != nil {
			return err
		}
		_, err = s.Take(t.Context(), t0, 0, ask(thousand, 1))
		return errors.Join(err, s.Close(t.Context()))
	})
	if err != nil {
		t.Error(err)
	}
	if n := taken(t, open(t, path, nil), "alice", t0); n != 16 {
		t.Errorf("16 stores took one each: got %d, want 16", n)
	}
}
