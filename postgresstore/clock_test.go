package postgresstore_test

import (
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/trial"
	"github.com/zeroae/zael/postgresstore"
)

// Instants are the server's, which each answer tells: where both clocks are those of one machine, takes
// count when they were made.
func TestServersClock(t *testing.T) {
	t.Parallel()
	s := openTrial(t, sharedURL(t), &postgresstore.Config{Namespace: newNamespace()}, trial.Options{})
	for range 3 {
		now := time.Now()
		at, err := s.Take(t.Context(), now, 0, askPlenty("a", 1, true))
		if err != nil {
			t.Fatal(err)
		}
		if apart := at.Sub(now).Abs(); apart > time.Second {
			t.Errorf("a take at %v counted at %v, by the clock of the same machine", now, at)
		}
	}
	_, buckets, err := s.Buckets(t.Context(), time.Now(), []zael.Key{{Entity: "a", Resource: "r"}})
	if err != nil || len(buckets[0].Limits) != 1 {
		t.Fatalf("got %v and %v, want a bucket", buckets, err)
	}
}
