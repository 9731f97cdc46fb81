package dynamostore_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
	"github.com/zeroae/zael/internal/testrig/schedules"
)

// line has several takes wait for one, and become one write.
func line(t *testing.T, s *dynamostore.Store, lead zael.Debit, behind ...[]zael.Debit) (errs []error) {
	t.Helper()
	admit(t, s, debit("another", ask("rpm", define(10, 1, time.Hour), 1))) // nobody waits for the engine's time then
	now := time.Now()
	errs = make([]error, len(behind))
	var wg sync.WaitGroup
	begin := func(debits []zael.Debit, err *error) {
		wg.Go(func() { _, *err = s.Take(t.Context(), now, 0, debits) })
		synctest.Wait()
	}
	var first error
	begin([]zael.Debit{lead}, &first)
	for i := range behind {
		begin(behind[i], &errs[i])
	}
	wg.Wait()
	if first != nil {
		t.Fatal(first)
	}
	return errs
}

// Each caller of a shared write has the receipt of its own stretch.
func TestSharedReceipts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &dynamofake.Network{Table: dynamofake.New(), Latency: 2 * time.Millisecond}
		s := storeOn(t, n, 1)
		d := define(1000, 1, time.Hour)
		var takes [][]zael.Debit
		for i := range int64(4) {
			takes = append(takes, []zael.Debit{debit("e", ask("rpm", d, i+1), ask("tpm", d, 10))})
		}
		lead := debit("e", ask("tpm", d, 1), ask("rpm", d, 1))
		for i, err := range line(t, s, lead, takes...) {
			if err != nil {
				t.Errorf("take %d: got %v, want nil", i, err)
			}
		}
		if n.Writes() != 3 || s.Stats().Shared != 4 {
			t.Errorf("got %d writes and %d takes that shared one, want 3 and 4", n.Writes(), s.Stats().Shared)
		}
		rpm, tpm := lead.Charges[1].Receipt, lead.Charges[0].Receipt
		for i := range takes {
			rpm.Mark += int64(i+1) * 1000
			tpm.Mark += 10_000
			if got := takes[i][0].Charges; got[0].Receipt != rpm || got[1].Receipt != tpm {
				t.Errorf("take %d: got receipts %+v and %+v, want %+v and %+v", i, got[0].Receipt, got[1].Receipt, rpm, tpm)
			}
		}
	})
}

// One of a shared write's callers is refused by its other bucket. It gives back its own
// stretch, which has refilled by then, and nothing of the one behind it.
func TestSharedParentIsUndone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &dynamofake.Network{Table: dynamofake.New(), Latency: 2 * time.Millisecond}
		s, other := storeOn(t, n, 1), storeOn(t, n, 2)
		d, fast := define(10, 1, time.Hour), define(1000, 1000, time.Second)
		if _, err := other.Take(t.Context(), time.Now(), 0, []zael.Debit{debit("poor", ask("rpm", d, 10))}); err != nil {
			t.Fatal(err)
		}
		refused := []zael.Debit{debit("poor", ask("rpm", d, 1)), debit("parent", ask("rpm", fast, 1))}
		taken := []zael.Debit{debit("rich", ask("rpm", d, 1)), debit("parent", ask("rpm", fast, 100))}
		errs := line(t, s, debit("parent", ask("rpm", fast, 1)), refused, taken)
		if !errors.Is(errs[0], zael.ErrExceeded) || errs[1] != nil {
			t.Errorf("takes: got %v and %v, want the first refused", errs[0], errs[1])
		}
		_, got, err := s.Buckets(t.Context(), time.Now(), []zael.Key{refused[1].Key})
		if err != nil {
			t.Fatal(err)
		}
		if mark, want := got[0].Limits[0].State.Mark, taken[1].Charges[0].Receipt.Mark; mark != want {
			t.Errorf("the parent's mark: got %d, want %d: that of the last take", mark, want)
		}
		if e, c := counter(t, n.Table, "parent", "e"), counter(t, n.Table, "parent", "c_rpm"); e != 2 || c != 101 {
			t.Errorf("usage of the parent: got %d takes of %d, want 2 of 101", e, c)
		}
	})
}

// locally tells whether a take is answered from memory.
func locally(t *testing.T, s *dynamostore.Store, debits ...zael.Debit) bool {
	t.Helper()
	_, answered, err := s.TakeLocal(time.Now(), 0, debits)
	if answered && !errors.Is(err, zael.ErrExceeded) {
		t.Errorf("TakeLocal: got %v, want ErrExceeded or no answer", err)
	}
	return answered
}

// refuse has the engine refuse.
func refuse(t *testing.T, s *dynamostore.Store, debits ...zael.Debit) {
	t.Helper()
	if _, err := s.Take(t.Context(), time.Now(), 0, debits); !errors.Is(err, zael.ErrExceeded) {
		t.Fatalf("Take: got %v, want ErrExceeded", err)
	}
	if !locally(t, s, debits...) {
		t.Fatal("TakeLocal of what was just refused: got no answer, want it refused")
	}
}

func admit(t *testing.T, s *dynamostore.Store, debits ...zael.Debit) {
	t.Helper()
	if _, err := s.Take(t.Context(), time.Now(), 0, debits); err != nil {
		t.Fatalf("Take: got %v, want nil", err)
	}
}

// What is remembered of a refusal says what the engine would, and no more.
func TestRememberedRefusals(t *testing.T) {
	t.Parallel()
	d := define(10, 1, time.Hour)
	for name, run := range map[string]func(t *testing.T, s *dynamostore.Store, n *dynamofake.Network){
		"the state is the bucket's": func(t *testing.T, s *dynamostore.Store, n *dynamofake.Network) {
			t.Helper()
			admit(t, s, debit("e", ask("rpm", d, 7)))
			refuse(t, s, debit("e", ask("rpm", d, 4)))
			calls := n.Calls()
			if _, err := s.Take(t.Context(), time.Now(), 0, []zael.Debit{debit("e", ask("rpm", d, 4))}); !errors.Is(err, zael.ErrExceeded) || n.Calls() != calls {
				t.Errorf("Take, refused a moment ago: got %v and %d calls, want ErrExceeded and none", err, n.Calls()-calls)
			}
			again := debit("e", ask("rpm", d, 5), ask("new", d, 3))
			at, answered, err := s.TakeLocal(time.Now(), 0, []zael.Debit{again})
			now, _ := bucket.At(at)
			if !answered || !errors.Is(err, zael.ErrExceeded) {
				t.Fatalf("TakeLocal: got %v and %v, want it refused", answered, err)
			}
			if got := again.Charges[0].State.Available(now); got != 3 {
				t.Errorf("left of rpm: got %d, want 3", got)
			}
			if got := again.Charges[1].State; got.Absent() || got.Available(now) != 10 {
				t.Errorf("left of a limit that is not there: got %+v, want it full", got)
			}
		},
		"less, a wait, and what fits are asked": func(t *testing.T, s *dynamostore.Store, _ *dynamofake.Network) {
			t.Helper()
			admit(t, s, debit("e", ask("rpm", d, 7)))
			refuse(t, s, debit("e", ask("rpm", d, 4)))
			if locally(t, s, debit("e", ask("rpm", d, 3))) {
				t.Error("what fits: got an answer, want the engine asked")
			}
			if _, answered, _ := s.TakeLocal(time.Now(), time.Hour, []zael.Debit{debit("e", ask("rpm", d, 4))}); answered {
				t.Error("with a wait in which it refills: got an answer, want the engine asked")
			}
			if _, answered, _ := s.AdjustLocal(time.Now(), []zael.Debit{debit("e", ask("rpm", d, 1))}); answered {
				t.Error("AdjustLocal: got an answer, want none")
			}
		},
		"another definition is asked": func(t *testing.T, s *dynamostore.Store, _ *dynamofake.Network) {
			t.Helper()
			admit(t, s, debit("e", ask("rpm", stored(d, 5), 10)))
			refuse(t, s, debit("e", ask("rpm", stored(d, 5), 1)))
			for _, next := range []bucket.Definition{stored(define(20, 1, time.Hour), 6), stored(d, 4), define(20, 1, time.Hour)} {
				if locally(t, s, debit("e", ask("rpm", next, 1))) {
					t.Errorf("under %+v: got an answer, want the engine asked", next)
				}
			}
			// SetLimits in this process: an adjust of 0 under the new limit, then a take.
			if _, err := s.Adjust(t.Context(), time.Now(), []zael.Debit{debit("e", ask("rpm", stored(define(20, 1, time.Hour), 6), 0))}); err != nil {
				t.Fatal(err)
			}
			admit(t, s, debit("e", ask("rpm", stored(define(20, 1, time.Hour), 6), 10)))
		},
		"a definition that is kept": func(t *testing.T, s *dynamostore.Store, _ *dynamofake.Network) {
			t.Helper()
			admit(t, s, debit("e", ask("rpm", d, 10)))
			faster := define(10, 10, time.Hour) // would admit sooner
			if _, err := s.Take(t.Context(), time.Now(), 0, []zael.Debit{debit("e", ask("rpm", faster, 1))}); !errors.Is(err, zael.ErrExceeded) {
				t.Fatalf("Take: got %v, want ErrExceeded", err)
			}
			if locally(t, s, debit("e", ask("rpm", d, 1))) {
				t.Error("under the definition before: got an answer, want the engine asked")
			}
		},
		"a cascade that is undone to the letter": func(t *testing.T, s *dynamostore.Store, n *dynamofake.Network) {
			t.Helper()
			admit(t, s, debit("parent", ask("rpm", d, 5)))
			refuse(t, s, debit("parent", ask("rpm", d, 8)))
			other := storeOn(t, n, 2)
			admit(t, other, debit("child", ask("rpm", d, 10)))
			_, err := s.Take(t.Context(), time.Now().Add(-time.Second), 0, []zael.Debit{debit("child", ask("rpm", d, 1)), debit("parent", ask("rpm", d, 3))})
			if !errors.Is(err, zael.ErrExceeded) {
				t.Fatalf("Take: got %v, want ErrExceeded", err)
			}
			if locally(t, s, debit("parent", ask("rpm", d, 5))) {
				t.Error("what is there again: got it refused, want the engine asked")
			}
			admit(t, s, debit("parent", ask("rpm", d, 5)))
		},
		"a cascade of which either is exhausted": func(t *testing.T, s *dynamostore.Store, n *dynamofake.Network) {
			t.Helper()
			admit(t, s, debit("parent", ask("rpm", d, 10)))
			admit(t, s, debit("child", ask("rpm", d, 1)))
			both := []zael.Debit{debit("child", ask("rpm", d, 1)), debit("parent", ask("rpm", d, 1))}
			refuse(t, s, both...)
			writes := n.Calls()
			for range 3 {
				if !locally(t, s, both...) {
					t.Error("again: got no answer, want it refused")
				}
			}
			if locally(t, s, debit("child", ask("rpm", d, 1))) || locally(t, s, debit("sister", ask("rpm", d, 1)), both[1]) {
				t.Error("the child alone, and one that is not known: got an answer, want the engine asked")
			}
			changed := debit("child", ask("rpm", define(20, 1, time.Hour), 1))
			if locally(t, s, changed, both[1]) {
				t.Error("the child under another definition: got an answer, want the engine asked")
			}
			if got := n.Calls(); got != writes {
				t.Errorf("calls: got %d, want none", got-writes)
			}
			if got := s.Stats().Remembered; got != 4 {
				t.Errorf("refusals from memory: got %d, want 4", got)
			}
		},
		"an entity that is deleted": func(t *testing.T, s *dynamostore.Store, _ *dynamofake.Network) {
			t.Helper()
			if err := s.CreateEntity(t.Context(), zael.Entity{ID: "e"}, zael.AuditEvent{Time: time.Now(), Action: zael.EntityCreated, Entity: "e"}); err != nil {
				t.Fatal(err)
			}
			admit(t, s, debit("e", ask("rpm", d, 10)))
			refuse(t, s, debit("e", ask("rpm", d, 1)))
			if err := s.DeleteEntity(t.Context(), "e", zael.AuditEvent{Time: time.Now(), Action: zael.EntityDeleted, Entity: "e"}); err != nil {
				t.Fatal(err)
			}
			admit(t, s, debit("e", ask("rpm", d, 10)))
		},
		"a second later": func(t *testing.T, s *dynamostore.Store, n *dynamofake.Network) {
			t.Helper()
			other := storeOn(t, n, 2)
			lease := debit("e", ask("rpm", d, 10))
			admit(t, other, lease)
			refuse(t, s, debit("e", ask("rpm", d, 1)))
			if _, err := other.Adjust(t.Context(), time.Now(), []zael.Debit{debit("e", back(lease.Charges[0], 10))}); err != nil {
				t.Fatal(err)
			}
			<-time.After(980 * time.Millisecond)
			if !locally(t, s, debit("e", ask("rpm", d, 1))) {
				t.Error("within the second: got no answer, want it refused")
			}
			<-time.After(20 * time.Millisecond)
			admit(t, s, debit("e", ask("rpm", d, 10)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := &dynamofake.Network{Table: dynamofake.New(), Latency: 2 * time.Millisecond}
				run(t, storeOn(t, n, 1), n)
			})
		})
	}
}

// A limit that is raised by this process binds its next acquire, whoever was just
// refused; so does what is given back.
func TestRaisedLimitBindsAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &dynamofake.Network{Table: dynamofake.New(), Latency: 2 * time.Millisecond}
		l, err := zael.New(storeOn(t, n, 1), nil)
		if err != nil {
			t.Fatal(err)
		}
		set := func(burst int64) {
			t.Helper()
			if err := l.SetLimits(t.Context(), zael.Scope{Entity: "e", Resource: "r"}, []zael.Limit{zael.PerHour("rpm", burst)}); err != nil {
				t.Fatal(err)
			}
		}
		acquire := func(n int64, want error) *zael.Lease {
			t.Helper()
			lease, err := l.Acquire(t.Context(), zael.Request{Entity: "e", Resource: "r", UseStoredLimits: true, Consume: zael.Amounts{"rpm": n}})
			if !errors.Is(err, want) {
				t.Fatalf("Acquire of %d: got %v, want %v", n, err, want)
			}
			return lease
		}
		set(10)
		lease := acquire(10, nil)
		acquire(1, zael.ErrExceeded)
		set(15)
		acquire(5, nil)
		acquire(1, zael.ErrExceeded)
		calls := n.Calls()
		acquire(1, zael.ErrExceeded)
		if got := n.Calls(); got != calls {
			t.Errorf("calls of a refusal that is remembered: got %d, want none", got-calls)
		}
		if err := lease.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
		set(20) // and the tokens of another definition are not given back
		acquire(5, nil)
		held := acquire(0, nil)
		if err := held.Consume(t.Context(), zael.Amounts{"rpm": 1}); !errors.Is(err, zael.ErrExceeded) {
			t.Errorf("Consume: got %v, want ErrExceeded", err)
		}
	})
}

// Of buckets that nobody asks for any more nothing is kept but their last
// states, as many as Config.CachedBuckets says.
func TestIdleBucketsAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := storeOn(t, &dynamofake.Network{Table: dynamofake.New()}, 1)
		d := define(1, 1, time.Hour)
		buckets := schedules.Count(t, 1500)
		for i := range buckets {
			e := debit(strconv.Itoa(i), ask("rpm", d, 1))
			admit(t, s, e)
			refuse(t, s, e)
		}
		if got := dynamostore.Kept(s); got < min(buckets, 1000) {
			t.Errorf("kept of %d buckets that refuse: got %d, want all or 1000", buckets, got)
		}
		<-time.After(3 * time.Second)
		if got := dynamostore.Kept(s); got != 0 {
			t.Errorf("kept of buckets 3 s later: got %d, want none", got)
		}
	})
}

// Close waits for what is on its way, and lets nothing more begin.
func TestCloseWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &dynamofake.Network{Table: dynamofake.New(), Latency: 10 * time.Millisecond}
		s := storeOn(t, n, 1)
		d := define(10, 1, time.Hour)
		admit(t, s, debit("e", ask("rpm", d, 1)))
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { _, _ = s.Take(ctx, time.Now(), 0, []zael.Debit{debit("e", ask("rpm", d, 1))}) })
			synctest.Wait()
		}
		soon, stop := context.WithTimeout(t.Context(), time.Millisecond)
		defer stop()
		if err := s.Close(soon); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close within a millisecond: got %v, want a deadline", err)
		}
		if _, err := s.Take(t.Context(), time.Now(), 0, []zael.Debit{debit("e", ask("rpm", d, 1))}); !errors.Is(err, zael.ErrClosed) {
			t.Errorf("Take after Close: got %v, want ErrClosed", err)
		}
		if _, err := s.Adjust(t.Context(), time.Now(), []zael.Debit{debit("e", ask("rpm", d, 1))}); !errors.Is(err, zael.ErrClosed) {
			t.Errorf("Adjust after Close: got %v, want ErrClosed", err)
		}
		cancel() // the one on its way, and the two behind it
		if err := s.Close(t.Context()); err != nil {
			t.Errorf("Close: got %v, want nil", err)
		}
		wg.Wait()
		writes := n.Calls()
		<-time.After(5 * time.Second)
		if got := n.Calls(); got != writes {
			t.Errorf("calls after Close: got %d, want none", got-writes)
		}
		if got := counter(t, n.Table, "e", "c_rpm"); got > 2 {
			t.Errorf("charged: got %d, want 1, or 2 if the write that was on its way came late: those in line have taken nothing", got)
		}
	})
}
