package postgresstore_test

import (
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/postgresstore"
)

// Buckets that have been full for an hour are deleted, and their usage stays. What is older than the
// retention goes, too.
func TestSweep(t *testing.T) {
	t.Parallel()
	namespace := newNamespace()
	s := open(t, sharedURL(t), &postgresstore.Config{Namespace: namespace, Usage: true, Retention: 48 * time.Hour})
	for _, entity := range []string{"a", "b"} {
		debits := ask(500) // there again after half an hour
		debits[0].Key.Entity = entity
		if _, err := s.Take(t.Context(), t0, 0, debits); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.CreateEntity(t.Context(), zael.Entity{ID: "a", CreatedAt: t0}, zael.AuditEvent{Time: t0, Action: zael.EntityCreated, Entity: "a"}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.TakeOnce(t.Context(), t0, 0, nil, zael.OnceTake{Once: zael.Once{Key: "k", Until: t0.Add(time.Hour)}, Answer: func(time.Time, []zael.Debit) []byte { return []byte("x") }}); err != nil {
		t.Fatal(err)
	}
	count := func(table string) (n int) {
		t.Helper()
		if err := connect(t, sharedURL(t)).QueryRow(t.Context(), "SELECT count(*) FROM zael."+table+" WHERE namespace = $1", namespace).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, tt := range []struct {
		after                       time.Duration
		buckets, usage, audit, once int
	}{
		{89 * time.Minute, 2, 0, 1, 0}, // the key is over
		{105 * time.Minute, 0, 4, 1, 0},
		{47 * time.Hour, 0, 4, 1, 0},
		{50 * time.Hour, 0, 0, 0, 0},
	} {
		if _, err := s.SweepAt(t.Context(), t0.Add(tt.after)); err != nil {
			t.Fatal(err)
		}
		if b, u, a, o := count("buckets"), count("usage"), count("audit"), count("once"); b != tt.buckets || u != tt.usage || a != tt.audit || o != tt.once {
			t.Errorf("after %v: got %d buckets, %d rows of usage, %d events and %d keys, want %d, %d, %d and %d", tt.after, b, u, a, o, tt.buckets, tt.usage, tt.audit, tt.once)
		}
		if tt.after == 105*time.Minute {
			for r, err := range s.Usage(t.Context(), zael.UsageQuery{Entity: "a"}) {
				if err != nil || r.Amounts["rpm"] != 500 || r.Events != 1 {
					t.Errorf("the usage of a bucket that was deleted: got %+v and %v, want 500 tokens and 1 acquire", r, err)
				}
			}
		}
	}
	if _, err := s.Take(t.Context(), t0.Add(51*time.Hour), 0, ask(1000)); err != nil {
		t.Errorf("a take after all that: %v", err)
	}
}
