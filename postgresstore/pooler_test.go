package postgresstore_test

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/postgresstore"
)

// Stores work through a pooler that passes connections on after each transaction.
func TestPooler(t *testing.T) {
	t.Parallel()
	url := engine.Database(t)
	createTables(t, url)
	name := url[strings.LastIndexByte(url, '/')+1:]
	pooled := engine.Server(t).Pooler(t, name) + "?sslmode=disable"
	stores := []*postgresstore.Store{open(t, pooled, nil), open(t, pooled, &postgresstore.Config{Durability: postgresstore.DurabilityOff})}
	errs := make([]error, 16)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			_, errs[i] = takeAndGive(t.Context(), stores[i%2], []string{"a", "b"}[i/2%2], i%4 == 0)
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if got := used(t, stores[0], "a", "b"); got != 16*40 {
		t.Errorf("%d tokens are taken, want %d", got, 16*40)
	}
	if err := stores[0].CreateEntity(t.Context(), zael.Entity{ID: "a", CreatedAt: t0}, zael.AuditEvent{Time: t0, Action: zael.EntityCreated, Entity: "a"}); err != nil {
		t.Error(err)
	}
	if found, err := stores[1].Entities(t.Context(), []string{"a"}); err != nil || found[0].ID != "a" {
		t.Errorf("got %v and %v, want the entity", found, err)
	}
	// What is set for a transaction does not stay in the session, which is another program's then.
	var timeout string
	if err := connect(t, pooled+"&default_query_exec_mode=exec").QueryRow(t.Context(), "SHOW lock_timeout").Scan(&timeout); err != nil || timeout != "0" {
		t.Errorf("lock_timeout of a session: got %q and %v, want 0", timeout, err)
	}
}

// The connections of a pooler to the server break: what it then says does not tell whether a
// change was made, and each is made once all the same.
func TestLostAnswersBehindPooler(t *testing.T) {
	t.Parallel()
	url := engine.Database(t)
	createTables(t, url)
	w := newWire(t, engine.Server(t).Address())
	_, text, err := net.SplitHostPort(w.address())
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, engine.Server(t).PoolerOf(t, url[strings.LastIndexByte(url, '/')+1:], port)+"?sslmode=disable", &postgresstore.Config{Pool: 4})
	direct := open(t, url, nil)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	want := int64(0)
	for range 5 {
		debits := askPlenty("a", 10, true)
		if _, err := s.Take(ctx, t0, 0, debits); err != nil {
			t.Fatal(err)
		}
		if _, err := direct.Take(t.Context(), t0, 0, askPlenty("a", 1, true)); err != nil { // so that s locks the buckets first
			t.Fatal(err)
		}
		var answers atomic.Int64
		w.breakWhen(func() bool { return answers.Add(1) == 3 }) // of the commit, behind those of a comparison and of the locks
		for i := range debits {
			debits[i].Charges[0].Amount = -1
		}
		if _, err := s.Adjust(ctx, t0, debits); err != nil {
			t.Fatal(err)
		}
		w.breakWhen(nil)
		want += 20
		if got := used(t, direct, "a", "parent"); got != want {
			t.Fatalf("%d tokens are taken, want %d (%+v)", got, want, s.Stats())
		}
	}
	if s.Stats().Unanswered == 0 {
		t.Errorf("no answer was lost: %+v", s.Stats())
	}
}
