package redisstore_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/redistest"
	"github.com/zeroae/zael/internal/testrig/tcpfault"
	"github.com/zeroae/zael/redisstore"
)

// The server is gone just after a change of administration was made: who made it is told that it
// was, or a top-up would be made once more.
func TestChangeIsToldAsMade(t *testing.T) {
	t.Parallel()
	address := engines.Address(t, redistest.Valkey)
	var requests, most atomic.Int64
	most.Store(1 << 62)
	proxy, err := tcpfault.New(address, func() tcpfault.Action {
		if requests.Add(1) > most.Load() {
			return tcpfault.Action{Fault: tcpfault.LoseRequest}
		}
		return tcpfault.Action{}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	namespace := newNamespace()
	s, err := redisstore.Open("redis://" + proxy.Address() + "?virtual_time=true&namespace=" + namespace)
	opened(t, s, err)
	debit := alice(ask("n", define(100, 1, time.Hour), 50))
	if _, err := s.Take(t.Context(), t0, 0, []zael.Debit{debit}); err != nil {
		t.Fatal(err)
	}
	topUp := func() (zael.EditResult, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		return s.Administer(ctx, t0, zael.Edit{
			Event:   zael.AuditEvent{Time: t0, Action: zael.BucketToppedUp, Entity: debit.Key.Entity, Resource: debit.Key.Resource},
			Amounts: zael.Amounts{"n": 10},
		}, zael.Once{})
	}
	for range 2 { // the second one has the calls of any
		requests.Store(0)
		if _, err := topUp(); err != nil {
			t.Fatal(err)
		}
	}
	most.Store(requests.Load() - 1) // the last one reads what is to be forgotten
	requests.Store(0)
	if got, err := topUp(); err != nil || got.Available["n"] != 80 {
		t.Errorf("got %v and %v, want that 80 are there", got.Available, err)
	}
	most.Store(1 << 62)
}
