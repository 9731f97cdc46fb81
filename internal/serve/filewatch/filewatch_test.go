package filewatch_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroae/zael/internal/serve/filewatch"
)

// A reload is made when the files have been the same twice, and not before.
func TestWatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var files atomic.Value
		var reloaded []filewatch.Fingerprint
		look := func() filewatch.Fingerprint { return files.Load().(filewatch.Fingerprint) }
		told, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			filewatch.Watch(ctx, 0, "a", look, told, func() { reloaded = append(reloaded, look()) })
		}()
		second := func(now filewatch.Fingerprint) {
			files.Store(now)
			<-time.After(time.Second)
			synctest.Wait()
		}
		for _, now := range []filewatch.Fingerprint{"a", "a", "b", "c", "d", "d", "d", "e", "d", "a", "a"} {
			second(now)
		}
		if want := []filewatch.Fingerprint{"d", "a"}; !slices.Equal(reloaded, want) {
			t.Errorf("got reloads of %q, want %q", reloaded, want)
		}
		files.Store(filewatch.Fingerprint("x"))
		told <- struct{}{}
		second("x")
		second("x")
		if want := []filewatch.Fingerprint{"d", "a", "x"}; !slices.Equal(reloaded, want) {
			t.Errorf("told to: got reloads of %q, want %q", reloaded, want)
		}
		cancel()
		<-done
	})
}

func TestFingerprints(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	seen := []filewatch.Fingerprint{filewatch.OfFolder(filepath.Join(folder, "none")), filewatch.OfFolder(folder)}
	step := func(what string, changes bool) {
		now := filewatch.OfFolder(folder)
		if slices.Contains(seen, now) == changes {
			t.Errorf("%s: got %q, which is known %v; want it to differ %v", what, now, !changes, changes)
		}
		seen = append(seen, now)
	}
	first := write("rules.yaml", "one")
	step("a new file", true)
	write(".hidden", "one")
	step("a hidden file", false)
	write("rules.yaml", "four")
	step("a longer file", true)
	if err := os.Chtimes(first, time.Time{}, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	step("a later file", true)
	for _, to := range []string{write("..1", "same"), write("..2", "same")} {
		link := filepath.Join(folder, "link")
		_ = os.Remove(link)
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(to, time.Time{}, time.Unix(2, 0)); err != nil {
			t.Fatal(err)
		}
		step("a link to "+to, true)
	}
	if got := filewatch.Of(filepath.Join(folder, "none")); got == filewatch.Of() || got != filewatch.Of(filepath.Join(folder, "none")) {
		t.Errorf("a missing file: got %q", got)
	}
}
