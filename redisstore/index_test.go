package redisstore_test

import (
	"slices"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/testrig/redistest"
	"github.com/zeroae/zael/redisstore"
)

// The set of an entity's buckets loses those that have expired when it gets another one, by rows
// and by records: an entity that is never idle may meet any number of resources.
func TestExpiredBucketsLeaveTheIndex(t *testing.T) {
	t.Parallel()
	client := newClient(t, engines.Address(t, redistest.Redis))
	for name, d := range map[string]bucket.Definition{
		"rows":    define(100, 1, time.Hour),
		"records": {Kind: bucket.Slots, Burst: 100, Period: time.Minute, Capacity: 100},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := redisstore.Config{Namespace: newNamespace(), CallTimeout: time.Minute}
			made, err := redisstore.New(client, &config)
			s := opened(t, made, err)
			take := func(resource string) {
				t.Helper()
				debit := zael.Debit{Key: zael.Key{Entity: "alice", Resource: resource}, Charges: []zael.Charge{ask("n", d, 1)}, Holder: "lease"}
				if _, err := s.Take(t.Context(), time.Now(), 0, []zael.Debit{debit}); err != nil {
					t.Fatalf("a take from %s: %v", resource, err)
				}
			}
			index := "zael:" + config.Namespace + ":{alice}"
			indexed := func(want ...string) {
				t.Helper()
				got, err := client.Do(t.Context(), client.B().Zrange().Key(index).Min("0").Max("-1").Build()).AsStrSlice()
				if err != nil {
					t.Fatal(err)
				}
				slices.Sort(got)
				if !slices.Equal(got, want) {
					t.Errorf("the set of the entity's buckets: got %v, want %v", got, want)
				}
			}
			take("a")
			take("b")
			take("a")
			indexed("a", "b")
			// As if b had expired a while ago.
			ago := float64(time.Now().Add(-time.Hour).Unix() / 60)
			if err := client.Do(t.Context(), client.B().Zadd().Key(index).Xx().ScoreMember().ScoreMember(ago, "b").Build()).Error(); err != nil {
				t.Fatal(err)
			}
			take("a")
			indexed("a", "b")
			take("c")
			indexed("a", "c")
		})
	}
}
