package redisstore_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/redistest"
	"github.com/zeroae/zael/redisstore"
)

// BenchmarkTake takes from two limits of 64 buckets.
func BenchmarkTake(b *testing.B) {
	client := newClient(b, engines.Address(b, redistest.Valkey))
	s, err := redisstore.New(client, &redisstore.Config{Namespace: newNamespace()})
	opened(b, s, err)
	rpm, tpm := define(1e9, 1e9, time.Minute), define(1e11, 1e11, time.Minute)
	var callers atomic.Int64
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		key := zael.Key{Entity: fmt.Sprintf("entity-%02d", callers.Add(1)), Resource: "gpt-4"}
		for pb.Next() {
			debits := []zael.Debit{{Key: key, Charges: []zael.Charge{ask("rpm", rpm, 1), ask("tpm", tpm, 500)}}}
			if _, err := s.Take(b.Context(), time.Now(), 0, debits); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkTakeJoined takes from one bucket by a thousand callers.
func BenchmarkTakeJoined(b *testing.B) {
	client := newClient(b, engines.Address(b, redistest.Valkey))
	s, err := redisstore.New(client, &redisstore.Config{Namespace: newNamespace()})
	opened(b, s, err)
	rpm, tpm := define(1e9, 1e9, time.Minute), define(1e11, 1e11, time.Minute)
	b.ReportAllocs()
	b.SetParallelism(500)
	b.RunParallel(func(pb *testing.PB) {
		key := zael.Key{Entity: "one", Resource: "gpt-4"}
		for pb.Next() {
			debits := []zael.Debit{{Key: key, Charges: []zael.Charge{ask("rpm", rpm, 1), ask("tpm", tpm, 500)}}}
			if _, err := s.Take(b.Context(), time.Now(), 0, debits); err != nil {
				b.Fatal(err)
			}
		}
	})
}
