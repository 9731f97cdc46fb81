package sqlitestore_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/zeroae/zael/sqlitestore"
)

// nobody is a user id without rights to anything.
const nobody = 65534

// workUnprivileged opens a store as a user without rights, and writes the error.
func workUnprivileged(ctx context.Context, j job) error {
	if os.Geteuid() == 0 {
		if err := syscall.Setuid(nobody); err != nil {
			return err
		}
	}
	s, err := sqlitestore.Open(ctx, j.path, nil)
	if err == nil {
		return s.Close(ctx)
	}
	fmt.Println(err)
	return nil
}

func TestOpenWithoutRights(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		file, dir os.FileMode
		made      bool
		want      string
	}{
		{"a file in a directory that cannot be written", 0, 0o555, false, "let this user"},
		{"a store in such a directory", 0o666, 0o555, true, "let this user"},
		{"a store that cannot be written", 0o444, 0o777, true, "it cannot be written: let this user"},
		{"a store that cannot be read", 0o000, 0o777, true, "let this user read and write the file"},
		{"a store that can be written", 0o666, 0o777, true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, "zael.db")
			if tt.made {
				s, err := sqlitestore.Open(t.Context(), path, nil)
				if err != nil {
					t.Fatal(err)
				}
				if err := s.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(path, tt.file); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(dir, tt.dir); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.Chmod(dir, 0o777) })
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = job{"unprivileged", 0, 0, path}.environ()
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			text := string(out)
			if tt.want == "" && text != "" || !strings.Contains(text, tt.want) || strings.Contains(text, "unavailable") {
				t.Errorf("got %q, want %q and nothing about unavailable", text, tt.want)
			}
			if tt.want != "" && !strings.Contains(text, path) {
				t.Errorf("got %q, want the path %s in it", text, path)
			}
		})
	}
}
