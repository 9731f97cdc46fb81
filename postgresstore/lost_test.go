package postgresstore_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/postgresstore"
)

// The answer is lost to takes that the server has made of a bucket as another process had left it, and
// then the other process changes which limits the bucket has: the takes stand, and what is told of
// them gives back no more than they took.
func TestLostAnswerOfAChangedBucket(t *testing.T) {
	t.Parallel()
	other := plenty
	other.Burst, other.Capacity = 2e9, 2
	for _, tt := range []struct {
		name    string
		charges []zael.Charge // of the other process
	}{
		{"a limit that sorts behind", []zael.Charge{{Name: "zzz", Definition: plenty, Amount: 1}}},
		{"a limit that sorts before", []zael.Charge{{Name: "aaa", Definition: plenty, Amount: 1}}},
		{"another definition", []zael.Charge{{Name: "rpm", Definition: other, Amount: 1}}},
	} {
		url, namespace := sharedURL(t), newNamespace()
		w := newWire(t, engine.Server(t).Address())
		direct := open(t, url, &postgresstore.Config{Namespace: namespace})
		s := open(t, strings.Replace(url, engine.Server(t).Address(), w.address(), 1), &postgresstore.Config{Namespace: namespace, Pool: 2})
		for _, each := range []zael.Store{s, direct, s} { // then the bucket counts as one that others write
			if _, err := each.Take(t.Context(), t0, 0, askPlenty("a", 1, false)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := direct.Take(t.Context(), t0, 0, askPlenty("a", 1, false)); err != nil {
			t.Fatal(err)
		}
		var lost atomic.Bool
		w.breakWhen(func() bool {
			if lost.Swap(true) {
				return false
			}
			if _, err := direct.Take(t.Context(), t0, 0, []zael.Debit{{Key: zael.Key{Entity: "a", Resource: "r"}, Charges: tt.charges}}); err != nil {
				t.Errorf("%s: the other process: %v", tt.name, err)
			}
			return true
		})
		debits := askPlenty("a", 10, false)
		if _, err := s.Take(t.Context(), t0, 0, debits); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		w.breakWhen(nil)
		if s.Stats().Unanswered != 1 {
			t.Errorf("%s: %d answers were lost, want 1: %+v", tt.name, s.Stats().Unanswered, s.Stats())
		}
		debits[0].Charges[0].Amount = -10
		if _, err := s.Adjust(t.Context(), t0, debits); err != nil {
			t.Fatalf("%s: giving back: %v", tt.name, err)
		}
		_, buckets, err := direct.Buckets(t.Context(), t0, []zael.Key{{Entity: "a", Resource: "r"}})
		if err != nil {
			t.Fatal(err)
		}
		want := int64(4)
		if tt.charges[0].Name == "rpm" {
			want++
		}
		for _, l := range buckets[0].Limits {
			if l.Name != "rpm" {
				continue
			}
			if taken := l.State.Definition.Burst - l.State.Available(mustAt(t, t0)); taken < want || taken > want+10 {
				t.Errorf("%s: %d are taken of rpm, want %d to %d", tt.name, taken, want, want+10)
			}
		}
	}
}

// The server ends a transaction that waits for its client for too long: nothing was made, and it is
// made again.
func TestIdleInTransaction(t *testing.T) {
	t.Parallel()
	url := engine.Database(t)
	createTables(t, url)
	watching := connect(t, url)
	name := url[strings.LastIndexByte(url, '/')+1:]
	if _, err := watching.Exec(t.Context(), "ALTER DATABASE "+name+" SET idle_in_transaction_session_timeout = 500"); err != nil {
		t.Fatal(err)
	}
	w := newWire(t, engine.Server(t).Address())
	s := open(t, strings.Replace(url, engine.Server(t).Address(), w.address(), 1), &postgresstore.Config{Pool: 2})
	if _, err := s.Take(t.Context(), t0, 0, askPlenty("a", 1, false)); err != nil {
		t.Fatal(err)
	}
	var held atomic.Bool
	w.breakWhen(func() bool {
		if held.Swap(true) {
			return false
		}
		for n := 1; n > 0; { // the answer comes when the server has ended the transaction
			if err := watching.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND state LIKE 'idle in transaction%'").Scan(&n); err != nil {
				t.Error(err)
				return false
			}
		}
		return false
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, _, err := s.TakeOnce(ctx, t0, 0, askPlenty("a", 1, false), zael.OnceTake{
		Once: zael.Once{Key: "k", Hash: "h", Until: t0.Add(time.Hour)}, Answer: func(time.Time, []zael.Debit) []byte { return []byte("x") },
	})
	if err != nil {
		t.Error(err)
	}
	if got := used(t, s, "a"); got != 2 {
		t.Errorf("%d tokens are taken, want 2", got)
	}
}

// The answer to an adjust is lost, and others write the bucket so often that it no longer tells
// whether it was made. If it gives something back it is not made again, and its caller is told so;
// one with a key is made once, as the key tells.
func TestLostAnswerOfAnAdjust(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		cascade bool
		key     string
	}{{"one bucket", false, ""}, {"two buckets", true, ""}, {"with a key", true, "k"}} {
		url, namespace := sharedURL(t), newNamespace()
		w := newWire(t, engine.Server(t).Address())
		direct := open(t, url, &postgresstore.Config{Namespace: namespace})
		s := open(t, strings.Replace(url, engine.Server(t).Address(), w.address(), 1), &postgresstore.Config{Namespace: namespace, Pool: 2})
		debits := askPlenty("a", 10, tt.cascade)
		for i := range debits {
			debits[i].Charges = append(debits[i].Charges, zael.Charge{Name: "tpm", Definition: plenty, Amount: 10})
		}
		if _, err := s.Take(t.Context(), t0, 0, debits); err != nil {
			t.Fatal(err)
		}
		for i := range debits {
			debits[i].Charges[0].Amount, debits[i].Charges[1].Amount = -1, 5
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		var answers atomic.Int64
		at := int64(1) // of the write, or behind that of the locks
		if tt.key != "" {
			at = 2
		}
		w.breakWhen(func() bool {
			if answers.Add(1) != at {
				return false
			}
			for range 4 {
				if _, err := direct.Take(t.Context(), t0, 0, askPlenty("a", 1, tt.cascade)); err != nil {
					t.Errorf("%s: the other process: %v", tt.name, err)
				}
			}
			return true
		})
		var err error
		if tt.key == "" {
			_, err = s.Adjust(ctx, t0, debits)
		} else {
			_, err = s.AdjustOnce(ctx, t0, debits, zael.Once{Key: tt.key, Hash: "h", Until: t0.Add(time.Hour)}, []byte("done"))
		}
		w.breakWhen(nil)
		if told := errors.Is(err, zael.ErrUnavailable); told != (tt.key == "") || err != nil && !told {
			t.Errorf("%s: got %v, want ErrUnavailable: %t", tt.name, err, tt.key == "")
		}
		keys := []string{"a"}
		if tt.cascade {
			keys = append(keys, "parent")
		}
		if got, want := used(t, direct, keys...), int64(len(keys))*(10-1+10+5+4); got != want {
			t.Errorf("%s: %d tokens are taken, want %d", tt.name, got, want)
		}
	}
}
