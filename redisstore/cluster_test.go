package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/redistest"
	"github.com/zeroae/zael/internal/trial"
	"github.com/zeroae/zael/redisstore"
	"github.com/zeroae/zael/storetest"
)

// The suite on a cluster of three: what is of several entities is there in several steps, after
// which TakeLocal must not answer from what was remembered before.
func TestCluster(t *testing.T) {
	t.Parallel()
	var hosts []string
	servers := redistest.StartCluster(t, redistest.Valkey, 3)
	for _, s := range servers {
		hosts = append(hosts, s.Address())
	}
	// One client for all checks: it has connections to each server.
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: hosts, DisableCache: true, DisableRetry: true, AlwaysPipelining: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	storetest.Run(t, func(t *testing.T) zael.Store {
		t.Helper()
		s, err := redisstore.NewInCluster(client, &redisstore.Config{Namespace: newNamespace(), CallTimeout: time.Minute, Usage: true}, trial.Options{VirtualTime: true})
		return opened(t, s, err)
	}, storetest.LocalStore, storetest.Kinds, storetest.EntityStore, storetest.LimitStore, storetest.AdminStore, storetest.OnceStore,
		storetest.Applier, storetest.CapacityReader, storetest.ListStore, storetest.UsageStore, storetest.AuditStore)

	// One that is gone takes its own buckets with it.
	servers[2].Kill()
	s, err := redisstore.Open("redis+cluster://" + strings.Join(hosts, ",") + "?virtual_time=true")
	opened(t, s, err)
	took, failed := 0, 0
	for i := range 12 {
		d := alice(ask("n", define(10, 10, time.Minute), 1))
		d.Key.Entity = fmt.Sprintf("entity-%d", i)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		_, err := s.Take(ctx, t0, 0, []zael.Debit{d})
		cancel()
		switch {
		case err == nil:
			took++
		case errors.Is(err, zael.ErrUnavailable):
			failed++
		default:
			t.Errorf("Take with a server gone: got %v, want it taken or unavailable", err)
		}
	}
	if took == 0 || failed == 0 {
		t.Errorf("with a server gone: %d taken and %d failed, want some of each", took, failed)
	}
}
