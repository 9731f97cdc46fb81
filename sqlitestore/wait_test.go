package sqlitestore_test

import (
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/sqlitestore"
)

// lock locks the file for writing, by another connection, until release is called.
func lock(t *testing.T, path string) (release func()) {
	t.Helper()
	db := database(t, path)
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	exec := func(conn *sql.Conn, text string) {
		if _, err := conn.ExecContext(context.WithoutCancel(t.Context()), text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	exec(conn, "BEGIN IMMEDIATE")
	release = sync.OnceFunc(func() {
		exec(conn, "ROLLBACK")
		_ = conn.Close()
		_ = db.Close()
	})
	t.Cleanup(release)
	return release
}

// waitFor waits until n operations wait in a store. What it waits for in vain is the last line of
// the log.
func waitFor(t *testing.T, s *sqlitestore.Store, n int) {
	t.Helper()
	t.Logf("until %d operations wait", n)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for s.Waiting() < n {
		<-tick.C
	}
}

// It is not an error that another process holds the file for a while.
func TestWaitsForTheLock(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := open(t, path, nil)
	release := lock(t, path)
	const n = 50
	done := make(chan error)
	go func() {
		done <- together(n, func(int) error {
			_, err := s.Take(t.Context(), t0, 0, ask(thousand, 1))
			return err
		})
	}()
	waitFor(t, s, n)
	if got := taken(t, s, "alice", t0); got != 0 { // reads go on
		t.Errorf("while the file is locked: got %d taken, want 0", got)
	}
	release()
	if err := <-done; err != nil {
		t.Errorf("takes while the file was locked: got %v, want nil", err)
	}
	if got := taken(t, s, "alice", t0); got != n {
		t.Errorf("afterwards: got %d taken, want %d", got, n)
	}
}

// Opening waits while another process makes the tables.
func TestOpenWaitsForTheLock(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	write(t, path, "")
	release := lock(t, path)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := sqlitestore.Open(ctx, path, nil); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), path) {
		t.Errorf("Open of a locked file: got %v, want context.DeadlineExceeded, and the path", err)
	}
	time.AfterFunc(20*time.Millisecond, release)
	mustTake(t, open(t, path, nil), t0, ask(thousand, 1))
}

// Opening a file with tables, and reading it, waits for no writer.
func TestOpenBesideAWriter(t *testing.T) {
	t.Parallel()
	path := made(t)
	lock(t, path)
	if got := taken(t, open(t, path, nil), "entity-1", t0); got != 1 {
		t.Errorf("while another process writes: got %d taken, want 1", got)
	}
}

// A caller that gives up before its operation is in a transaction has changed nothing.
func TestGivesUpInTime(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := open(t, path, nil)
	release := lock(t, path)
	patient := make(chan error) // the first in line
	go func() {
		_, err := s.Take(t.Context(), t0, 0, ask(thousand, 1))
		patient <- err
	}()
	waitFor(t, s, 1)
	n := 3000 // in each of two waves: the line is tidied when the second comes
	if testing.Short() {
		n = 1000
	}
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		var late atomic.Int64
		err := together(n, func(i int) error {
			var err error
			switch i % 4 {
			case 0:
				_, err = s.Adjust(ctx, t0, ask(thousand, 1))
			case 1:
				err = s.CreateEntity(ctx, zael.Entity{ID: "alice", CreatedAt: t0}, zael.AuditEvent{Time: t0})
			default:
				_, err = s.Take(ctx, t0, 0, ask(thousand, 1))
			}
			// On a busy machine a call may come when its time is over already.
			if errors.Is(err, context.DeadlineExceeded) &&
				(strings.Contains(err.Error(), "nothing was changed") || strings.Contains(err.Error(), "not attempted")) {
				late.Add(1)
				return nil
			}
			return err
		})
		if err != nil || late.Load() != int64(n) { // and all have returned before the file is released
			t.Errorf("%d calls with 200 ms on a locked file: got %d context.DeadlineExceeded and %v", n, late.Load(), err)
		}
	}
	if got := s.Waiting(); got > n*3/2 {
		t.Errorf("the queue when all but one had given up: got %d, want less than %d", got, n*3/2)
	}
	release()
	if err := <-patient; err != nil {
		t.Errorf("the caller that stayed: got %v, want nil", err)
	}
	mustTake(t, s, t0, ask(thousand, 1))
	if got := taken(t, s, "alice", t0); got != 2 {
		t.Errorf("afterwards: got %d taken, want 2", got)
	}
	if got, err := s.Entities(t.Context(), []string{"alice"}); err != nil || got[0].ID != "" {
		t.Errorf("afterwards: got the entity %+v and %v, want none", got, err)
	}
}

// What a caller took that gave up in the meantime is given back: in the end exactly what
// was answered is taken and counted.
func TestGivesBackForThoseWhoLeft(t *testing.T) {
	t.Parallel()
	s := open(t, newPath(t), nil)
	var admitted, leftInFlight atomic.Int64
	err := together(16, func(int) error {
		for leftInFlight.Load() < 50 && t.Context().Err() == nil {
			ctx, cancel := context.WithTimeout(t.Context(), rand.N(time.Millisecond))
			_, err := s.Take(ctx, t0, 0, ask(plenty, 1))
			cancel()
			switch {
			case err == nil:
				admitted.Add(1)
			case !errors.Is(err, context.DeadlineExceeded):
				return err
			case strings.Contains(err.Error(), "will be given back"):
				leftInFlight.Add(1)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	// Later operations find it given back.
	mustTake(t, s, t0, ask(plenty, 1))
	want := admitted.Load() + 1
	if got := taken(t, s, "alice", t0); got != want {
		t.Errorf("%d admitted, %d left: got %d taken, want %d", want, leftInFlight.Load(), got, want)
	}
	if tokens, events := usage(t, s, zael.UsageQuery{}); tokens != want || events != want {
		t.Errorf("%d admitted: got %d tokens and %d acquires counted, want as many", want, tokens, events)
	}
}

func TestCloseAnswersThoseWhoWait(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := open(t, path, nil)
	release := lock(t, path)
	const n = 20
	done := make(chan error)
	go func() {
		done <- together(n, func(int) error {
			_, err := s.Take(t.Context(), t0, 0, ask(thousand, 1))
			return err
		})
	}()
	waitFor(t, s, n)
	time.AfterFunc(20*time.Millisecond, release)
	if err := s.Close(t.Context()); err != nil {
		t.Errorf("Close: got %v, want nil", err)
	}
	if err := <-done; err != nil {
		t.Errorf("takes that waited at Close: got %v, want nil", err)
	}
	if _, err := s.Take(t.Context(), t0, 0, ask(thousand, 1)); !errors.Is(err, zael.ErrClosed) {
		t.Errorf("Take after Close: got %v, want zael.ErrClosed", err)
	}
	if _, _, err := s.Buckets(t.Context(), t0, []zael.Key{sharedKey}); !errors.Is(err, zael.ErrClosed) {
		t.Errorf("Buckets after Close: got %v, want zael.ErrClosed", err)
	}
	if got := taken(t, open(t, path, nil), "alice", t0); got != n {
		t.Errorf("afterwards: got %d taken, want %d", got, n)
	}
}

func TestCloseTurnsAwayThoseWhoWait(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := open(t, path, nil)
	release := lock(t, path)
	const n = 20
	done := make(chan error)
	go func() {
		done <- together(n, func(int) error {
			if _, err := s.Take(t.Context(), t0, 0, ask(thousand, 1)); !errors.Is(err, zael.ErrClosed) {
				return errors.Join(errors.New("want zael.ErrClosed"), err)
			}
			return nil
		})
	}()
	waitFor(t, s, n)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := s.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Close while the file is locked: got %v, want context.DeadlineExceeded", err)
	}
	if err := <-done; err != nil {
		t.Errorf("takes that waited at Close: %v", err)
	}
	if err := s.Close(t.Context()); err != nil { // again, to the end
		t.Errorf("second Close: got %v, want nil", err)
	}
	release()
	if got := taken(t, open(t, path, nil), "alice", t0); got != 0 {
		t.Errorf("afterwards: got %d taken, want 0", got)
	}
}
