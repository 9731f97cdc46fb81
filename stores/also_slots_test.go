package stores_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
	"github.com/zeroae/zael/memstore"
	"github.com/zeroae/zael/sqlitestore"
)

// Slots of several resources in one acquire: all or none are held, each part releases its own,
// and the end of the lease releases all.
func TestSlotsOfSeveralResources(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(*testing.T) (zael.Store, error){
		"memory": func(*testing.T) (zael.Store, error) { return memstore.New(nil), nil },
		"sqlite": func(t *testing.T) (zael.Store, error) {
			t.Helper()
			s, err := sqlitestore.Open(t.Context(), filepath.Join(t.TempDir(), "zael.db"), nil)
			if err == nil {
				t.Cleanup(func() {
					if err := s.Close(context.WithoutCancel(t.Context())); err != nil {
						t.Error(err)
					}
				})
			}
			return s, err
		},
		"dynamodb": func(*testing.T) (zael.Store, error) { return dynamostore.New(dynamofake.New(), "fake", nil) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := open(t)
			if err != nil {
				t.Fatal(err)
			}
			slotsOfSeveral(t, s)
		})
	}
}

func slotsOfSeveral(t *testing.T, s zael.Store) {
	t.Helper()
	ctx := t.Context()
	l, err := zael.New(s, &zael.Config{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	chat := zael.MustPolicy("gpt-4", zael.AtOnce("parallel", 2), zael.EachDay("q", 10))
	tools := zael.MustPolicy("tools", zael.AtOnce("parallel", 3), zael.PerDay("calls", 5))
	both := func(chatSlots, toolSlots int64) zael.Request {
		req := chat.For("alice", chatSlots, 1)
		req.Also = []zael.Part{tools.PartFor("team", toolSlots, 1)}
		return req
	}
	free := func(when string, chatFree, q, toolsFree, calls int64) {
		t.Helper()
		for entity, want := range map[string]zael.Amounts{"alice": {"parallel": chatFree, "q": q}, "team": {"parallel": toolsFree, "calls": calls}} {
			p := map[string]*zael.Policy{"alice": chat, "team": tools}[entity]
			got, err := l.Available(ctx, zael.Query{Entity: entity, Policy: p})
			if err != nil {
				t.Fatal(err)
			}
			for name, n := range want {
				if got[name] != n {
					t.Errorf("%s: %s of %s: got %d available, want %d", when, name, entity, got[name], n)
				}
			}
		}
	}
	lease, err := l.Acquire(ctx, both(1, 2))
	if err != nil {
		t.Fatal(err)
	}
	free("held", 1, 9, 1, 4)
	for _, req := range []zael.Request{both(1, 2), both(2, 1)} { // the one has room, and the other not
		if _, err := l.Acquire(ctx, req); !errors.Is(err, zael.ErrExceeded) {
			t.Fatalf("got %v, want a refusal", err)
		}
		free("refused", 1, 9, 1, 4)
	}
	if err := lease.On("team", "tools").Release(zael.Amounts{"parallel": 1}); err != nil {
		t.Fatal(err)
	}
	free("one released", 1, 9, 2, 4)
	second, err := l.Acquire(ctx, both(1, 2))
	if err != nil {
		t.Fatal(err)
	}
	if !lease.Held() || !second.Held() {
		t.Error("got leases that do not hold their slots")
	}
	if err := lease.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	free("committed", 1, 8, 1, 3)
	if err := second.Rollback(ctx); err != nil {
		t.Fatal(err)
	}
	free("rolled back", 2, 9, 3, 4)
	if err := l.Close(ctx); err != nil {
		t.Error(err)
	}
}
