package postgresstore_test

import (
	"errors"
	"strings"
	"sync"
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
