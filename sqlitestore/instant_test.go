package sqlitestore_test

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// kept returns the latest instant in a file.
func kept(t *testing.T, path string) time.Time {
	t.Helper()
	ns, err := strconv.ParseInt(query(t, path, "SELECT latest FROM instants"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return bucket.Instant(ns).Time()
}

// The file keeps the latest instant. It is written at most once a second, and
// only by transactions that write anyway.
func TestLatestInstantInFile(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := open(t, path, nil)
	t5 := t0.Add(5 * time.Second)
	take := func(now time.Time, n int64) error {
		_, err := s.Take(t.Context(), now, 0, ask(thousand, n))
		return err
	}
	for _, tt := range []struct {
		name string
		do   func() error
		want time.Time
	}{
		{"a take", func() error { return take(t0, 1) }, t0},
		{"a take within the second", func() error { return take(t0.Add(time.Second-1), 1) }, t0},
		{"a take after a second", func() error { return take(t0.Add(time.Second), 1) }, t0.Add(time.Second)},
		{"a take by an older clock", func() error { return take(t0, 1) }, t0.Add(time.Second)},
		{"an adjust", func() error {
			_, err := s.Adjust(t.Context(), t5, ask(thousand, 1))
			return err
		}, t5},
		{"a refusal, which writes nothing", func() error {
			if err := take(t0.Add(time.Minute), 1001); !errors.Is(err, zael.ErrExceeded) {
				return errors.Join(errors.New("want a refusal"), err)
			}
			return nil
		}, t5},
	} {
		if err := tt.do(); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if got := kept(t, path); !got.Equal(tt.want) {
			t.Errorf("%s: got %v in the file, want %v", tt.name, got, tt.want)
		}
	}
	if got, want := s.LatestInstant(), t0.Add(time.Minute); !got.Equal(want) {
		t.Errorf("LatestInstant after a refusal: got %v, want %v", got, want)
	}
	if got := open(t, path, nil).LatestInstant(); !got.Equal(t5) {
		t.Errorf("LatestInstant of a store that was just opened: got %v, want the one in the file, %v", got, t5)
	}
}

// A store learns of the instants of other processes when it writes, and of those
// of a bucket that it uses exactly.
func TestLatestInstantOfOthers(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	one, other := open(t, path, nil), open(t, path, nil)
	mustTake(t, one, t0, ask(thousand, 1))
	at := t0.Add(10 * time.Second)
	mustTake(t, other, at, ask(thousand, 1))
	mustTake(t, other, at.Add(time.Millisecond), ask(thousand, 1))
	if got := one.LatestInstant(); !got.Equal(t0) {
		t.Errorf("before one writes: got %v, want %v", got, t0)
	}
	mustTake(t, one, t0, askOf("bob", thousand, 1))
	if got := one.LatestInstant(); !got.Equal(at) {
		t.Errorf("after one wrote: got %v, want what the file has, %v", got, at)
	}
	mustTake(t, one, t0, ask(thousand, 1))
	if got, want := one.LatestInstant(), at.Add(time.Millisecond); !got.Equal(want) {
		t.Errorf("after one took from the same bucket: got %v, want %v", got, want)
	}
}

// A clock that was wrong by years has left its instants in the file. What
// operations.md says to do brings the file back.
func TestResetInstants(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := open(t, path, nil)
	wrong := t0.AddDate(9, 0, 0)
	mustTake(t, s, wrong, ask(thousand, 1))
	for i := range 300 { // enough for buckets to be forgotten
		mustTake(t, s, wrong.Add(2*time.Hour), askOf(strconv.Itoa(i), thousand, 1))
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	run(t, path, "DELETE FROM instants; DELETE FROM buckets")
	s = open(t, path, nil)
	if got := s.LatestInstant(); !got.IsZero() {
		t.Errorf("LatestInstant: got %v, want none", got)
	}
	mustTake(t, s, t0, ask(thousand, 1000))
	if got := kept(t, path); !got.Equal(t0) {
		t.Errorf("the latest instant in the file: got %v, want %v", got, t0)
	}
}
