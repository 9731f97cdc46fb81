package postgresstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/testrig/pgtest"
	"github.com/zeroae/zael/internal/testrig/schedules"
	"github.com/zeroae/zael/postgresstore"
)

// patience only ends what hangs.
const patience = 2 * time.Minute

// plenty has room for all takes of a test.
var plenty = bucket.Definition{Burst: 1e9, Amount: 1, Period: time.Hour, Capacity: 1}

// askPlenty takes n from one bucket of an entity, or of two if cascade is set.
func askPlenty(entity string, n int64, cascade bool) []zael.Debit {
	debits := []zael.Debit{{Key: zael.Key{Entity: entity, Resource: "r"}, Charges: []zael.Charge{{Name: "rpm", Definition: plenty, Amount: n}}}}
	if cascade {
		debits = append(debits, zael.Debit{Key: zael.Key{Entity: "parent", Resource: "r"}, Charges: []zael.Charge{{Name: "rpm", Definition: plenty, Amount: n}}})
	}
	return debits
}

// used returns what is taken from buckets at t0.
func used(t *testing.T, s zael.Store, entities ...string) (total int64) {
	t.Helper()
	keys := make([]zael.Key, len(entities))
	for i, e := range entities {
		keys[i] = zael.Key{Entity: e, Resource: "r"}
	}
	_, buckets, err := s.Buckets(t.Context(), t0, keys)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range buckets {
		for _, l := range b.Limits {
			total += plenty.Burst - l.State.Available(mustAt(t, t0))
		}
	}
	return total
}

// Answers are lost all the time: each take and each give is made once all the same. Nothing is
// charged that was not told, and nothing told is missing.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	for seed := range schedules.Seeds(t, 2) {
		url, namespace := sharedURL(t), newNamespace()
		w := newWire(t, engine.Server(t).Address())
		direct := open(t, url, &postgresstore.Config{Namespace: namespace})
		s := open(t, strings.Replace(url, engine.Server(t).Address(), w.address(), 1), &postgresstore.Config{Namespace: namespace, Pool: 4})
		if _, err := s.Take(t.Context(), t0, 0, askPlenty("warm", 1, true)); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		rng := rand.New(rand.NewPCG(seed, 1))
		w.breakWhen(func() bool {
			mu.Lock()
			defer mu.Unlock()
			return rng.IntN(6) == 0
		})
		var want atomic.Int64
		errs := make([]error, 12)
		var wg sync.WaitGroup
		for c := range errs {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				n, err := takeAndGive(ctx, s, []string{"a", "b", "c"}[c%3], c%2 == 0)
				want.Add(n)
				errs[c] = err
			})
		}
		wg.Wait()
		w.breakWhen(nil)
		if err := errors.Join(errs...); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if got := used(t, direct, "a", "b", "c"); got != want.Load() {
			t.Errorf("seed %d: %d tokens are taken, want %d (%+v)", seed, got, want.Load(), s.Stats())
		}
		if s.Stats().Unanswered == 0 {
			t.Errorf("seed %d: no answer was lost: %+v", seed, s.Stats())
		}
	}
}

// An operator ends connections in the middle of statements, one after each write: each take and each
// give is made once all the same. (Without waiting for a write, an operator who gets more of a busy
// machine than the callers would let none through.)
func TestTerminatedConnections(t *testing.T) {
	t.Parallel()
	url := engine.Database(t)
	createTables(t, url)
	s := open(t, url+"?application_name=victim", &postgresstore.Config{Pool: 4})
	operator := connect(t, url)
	var killed atomic.Int64
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for written := uint64(0); ; {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			now := s.Stats().Written
			if now == written {
				continue
			}
			tag, err := operator.Exec(t.Context(), "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity WHERE application_name = 'victim' AND state <> 'idle' LIMIT 1) AS busy")
			if err != nil {
				t.Error(err)
				return
			}
			if tag.RowsAffected() > 0 {
				written = now
				killed.Add(1)
			}
		}
	}()
	errs := make([]error, 8)
	var want atomic.Int64
	var wg sync.WaitGroup
	for c := range errs {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			for ok := true; ok; ok = errs[c] == nil && killed.Load() < 5 {
				var n int64
				n, errs[c] = takeAndGive(ctx, s, []string{"a", "b"}[c%2], c%4 == 0)
				want.Add(n)
			}
		})
	}
	wg.Wait()
	close(stop)
	<-ended
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if got := used(t, open(t, url, nil), "a", "b"); got != want.Load() {
		t.Errorf("%d tokens are taken, want %d (%+v)", got, want.Load(), s.Stats())
	}
}

// Answers are lost while others write the same buckets: whatever was told is charged, and if it is not
// known whether something was made, more is charged and never less.
func TestLostAnswersAmongOthers(t *testing.T) {
	t.Parallel()
	for seed := range schedules.Seeds(t, 2) {
		url, namespace := sharedURL(t), newNamespace()
		w := newWire(t, engine.Server(t).Address())
		direct := open(t, url, &postgresstore.Config{Namespace: namespace, Pool: 3})
		s := open(t, strings.Replace(url, engine.Server(t).Address(), w.address(), 1), &postgresstore.Config{Namespace: namespace, Pool: 3})
		var mu sync.Mutex
		rng := rand.New(rand.NewPCG(seed, 2))
		w.breakWhen(func() bool {
			mu.Lock()
			defer mu.Unlock()
			return rng.IntN(8) == 0
		})
		var want atomic.Int64
		errs := make([]error, 12)
		var wg sync.WaitGroup
		for c := range errs {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				n, err := takeAndGive(ctx, []zael.Store{s, direct}[c%2], []string{"a", "b"}[c/2%2], c%3 == 0)
				want.Add(n)
				if !errors.Is(err, errMaybeGiven) {
					errs[c] = err
				}
			})
		}
		wg.Wait()
		w.breakWhen(nil)
		if err := errors.Join(errs...); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		unsure := int64(s.Stats().Unanswered) * 3 * 12 // a batch has a take of each caller at most
		if got := used(t, direct, "a", "b"); got < want.Load() || got > want.Load()+unsure {
			t.Errorf("seed %d: %d tokens are taken, want %d, and at most %d more (%+v)", seed, got, want.Load(), unsure, s.Stats())
		}
	}
}

// errMaybeGiven is matched by the error of takeAndGive that was not told whether all it gave back
// was.
var errMaybeGiven = errors.New("whether it was given back cannot be told")

// takeAndGive takes 3 and gives back 1, 20 times, and returns what it has then, at least.
func takeAndGive(ctx context.Context, s zael.Store, entity string, cascade bool) (n int64, err error) {
	for range 20 {
		debits := askPlenty(entity, 3, cascade)
		if _, err := s.Take(ctx, t0, 0, debits); err != nil {
			return n, err
		}
		n += 3
		for i := range debits {
			debits[i].Charges[0].Amount = -1
		}
		switch _, failed := s.Adjust(ctx, t0, debits); {
		case errors.Is(failed, zael.ErrUnavailable):
			err = fmt.Errorf("%w: %w", errMaybeGiven, failed)
		case failed != nil:
			return n, failed
		}
		n--
	}
	return n, err
}

// The server is killed under load and started again: what it had told is there, and no more than
// was asked for. Callers go on as soon as it answers.
func TestServerKilled(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t, pgtest.Options{Durable: true})
	url := server.URL("postgres")
	createTables(t, url)
	s := open(t, url, nil)
	var told, asked atomic.Int64
	var wg sync.WaitGroup
	stop := make(chan struct{})
	enough := make(chan struct{}, 1)
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				ctx, cancel := context.WithTimeout(t.Context(), callerTime)
				asked.Add(1)
				if _, err := s.Take(ctx, t0, 0, askPlenty("a", 1, false)); err == nil && told.Add(1)%200 == 0 {
					select {
					case enough <- struct{}{}:
					default:
					}
				}
				cancel()
			}
		})
	}
	await(t, enough)
	server.Kill()
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	restarted := time.Now()
	select {
	case <-enough: // of before the kill
	default:
	}
	before := told.Load()
	await(t, enough)
	t.Logf("%d takes were told in %v after the server was there again", told.Load()-before, time.Since(restarted).Round(time.Millisecond))
	close(stop)
	wg.Wait()
	if err := s.Close(t.Context()); err != nil { // what nobody holds is given back
		t.Fatal(err)
	}
	kept := used(t, open(t, url, nil), "a")
	// Of each caller, one take was in flight at the kill: it may have been made and not told, and
	// the connection by which it was given back may have been the one that ended.
	if kept < told.Load() || kept > told.Load()+8+int64(s.Stats().Stranded) {
		t.Errorf("%d tokens are taken; %d were told, %d asked for (%+v)", kept, told.Load(), asked.Load(), s.Stats())
	}
}

func await(t *testing.T, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatal("nothing happens")
	}
}

// The server is silent: callers are answered when their time is over, and what was taken for them is
// given back when the server goes on.
func TestSilentServer(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t, pgtest.Options{})
	url := server.URL("postgres")
	createTables(t, url)
	s := open(t, url, nil)
	if _, err := s.Take(t.Context(), t0, 0, askPlenty("a", 5, false)); err != nil {
		t.Fatal(err)
	}
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			_, err := s.Take(ctx, t0, 0, askPlenty([]string{"a", "b"}[i%2], 1, i%4 == 0))
			if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, zael.ErrUnavailable) {
				t.Errorf("a take from a silent server: got %v, want an error of the deadline or ErrUnavailable", err)
			}
		})
	}
	wg.Wait()
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Take(t.Context(), t0, 0, askPlenty("a", 1, true)); err != nil {
		t.Errorf("a take when the server goes on: %v", err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := used(t, open(t, url, nil), "a", "b", "parent"); got != 7 {
		t.Errorf("%d tokens are taken, want 7: nobody holds the others (%+v)", got, s.Stats())
	}
}

// A store is closed while its server is silent: it does not wait for longer than its caller, and who
// waits for it is told.
func TestCloseOfSilentServer(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t, pgtest.Options{})
	url := server.URL("postgres")
	createTables(t, url)
	s := openURL(t, url)
	if _, err := s.Take(t.Context(), time.Now(), 0, askPlenty("a", 1, false)); err != nil {
		t.Fatal(err)
	}
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	taking := make(chan error, 2)
	for _, entity := range []string{"a", "b"} {
		go func() {
			_, err := s.Take(t.Context(), time.Now(), 0, askPlenty(entity, 1, false))
			taking <- err
		}()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Close(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Close: got %v, want nil or the error of its context", err)
	}
	for range cap(taking) {
		if err := <-taking; !errors.Is(err, zael.ErrClosed) && !errors.Is(err, zael.ErrUnavailable) {
			t.Errorf("a take that waited: got %v, want ErrClosed or ErrUnavailable", err)
		}
	}
	if _, err := s.Take(t.Context(), time.Now(), 0, askPlenty("a", 1, false)); !errors.Is(err, zael.ErrClosed) {
		t.Errorf("a take of a closed store: got %v, want ErrClosed", err)
	}
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
}

// Nobody listens: callers are told so at once, or after half of their time.
func TestRefusedConnections(t *testing.T) {
	t.Parallel()
	w := newWire(t, "127.0.0.1:1")
	s := open(t, "postgres://postgres@"+w.address()+"/postgres", nil)
	for _, limit := range []time.Duration{0, 4 * time.Second} {
		ctx := t.Context()
		if limit > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, limit)
			defer cancel()
		}
		if _, err := s.Take(ctx, t0, 0, askPlenty("a", 1, false)); !errors.Is(err, zael.ErrUnavailable) {
			t.Errorf("within %v: got %v, want ErrUnavailable", limit, err)
		}
		if _, err := s.State(ctx); !errors.Is(err, zael.ErrUnavailable) && (limit == 0 || !errors.Is(err, ctx.Err())) { // the take may have used up the time
			t.Errorf("State within %v: got %v, want ErrUnavailable", limit, err)
		}
	}
}

// A bucket is locked by somebody else: takes from it wait as long as their callers do, and hold up
// no other bucket.
func TestLockedBucket(t *testing.T) {
	t.Parallel()
	url, namespace := sharedURL(t), newNamespace()
	s := open(t, url, &postgresstore.Config{Namespace: namespace})
	if _, err := s.Take(t.Context(), t0, 0, askPlenty("a", 1, false)); err != nil {
		t.Fatal(err)
	}
	c := connect(t, url)
	tx, err := c.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "SELECT 1 FROM zael.buckets WHERE namespace = $1 FOR UPDATE", namespace); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := s.Take(ctx, t0, 0, askPlenty("a", 1, false)); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, zael.ErrUnavailable) {
		t.Errorf("a take from a locked bucket: got %v, want an error of the deadline or ErrUnavailable", err)
	}
	waiting := make(chan error, 1)
	go func() {
		_, err := s.Take(t.Context(), t0, 0, askPlenty("a", 1, false))
		waiting <- err
	}()
	for i := range 10 {
		if _, err := s.Take(t.Context(), t0, 0, askPlenty("other", int64(i), false)); err != nil {
			t.Errorf("a take from another bucket: %v", err)
		}
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; err != nil && !errors.Is(err, zael.ErrUnavailable) {
		t.Errorf("a take that waited for the lock: %v", err)
	}
	if _, err := s.Take(t.Context(), t0, 0, askPlenty("a", 1, false)); err != nil {
		t.Errorf("a take after it: %v", err)
	}
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.WithoutCancel(t.Context())) })
	return c
}
