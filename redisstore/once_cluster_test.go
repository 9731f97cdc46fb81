package redisstore_test

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/testrig/oncerig"
	"github.com/zeroae/zael/internal/testrig/redistest"
	"github.com/zeroae/zael/redisstore"
)

// What a process has begun by a key in a cluster when it dies, whoever repeats it completes or
// undoes, so that it is done once. Replicas that are killed are in TestKeysOfProcesses.
func TestOnceInCluster(t *testing.T) {
	t.Parallel()
	var hosts []string
	for _, s := range redistest.StartCluster(t, redistest.Valkey, 3) {
		hosts = append(hosts, s.Address())
	}
	url := "redis+cluster://" + strings.Join(hosts, ",")
	t.Run("keys of replicas that are killed", func(t *testing.T) {
		t.Parallel()
		url := url + "?namespace=" + newNamespace()
		s, err := redisstore.Open(url)
		opened(t, s, err)
		oncerig.Run(t, func() *exec.Cmd { return command(t, "once", url) }, s, 100)
	})
	pair := func(t *testing.T) (dead, other *redisstore.Store) {
		t.Helper()
		url := fmt.Sprintf("%s?virtual_time=true&namespace=%s", url, newNamespace())
		dead, err := redisstore.Open(url)
		opened(t, dead, err)
		other, err = redisstore.Open(url)
		return dead, opened(t, other, err)
	}
	year := define(10, 10, 365*24*time.Hour)
	debits := func(n int64) []zael.Debit {
		all := []zael.Debit{alice(ask("n", year, n)), alice(ask("n", year, n))}
		all[1].Key.Entity = "team"
		return all
	}
	once := zael.Once{Key: "key", Hash: "hash", Until: t0.Add(time.Hour)}
	taking := func(answer string) *zael.OnceTake {
		return &zael.OnceTake{Once: once, Answer: func(time.Time, []zael.Debit) []byte { return []byte(answer) }}
	}
	left := func(t *testing.T, s *redisstore.Store, want int64) {
		t.Helper()
		later := t0.Add(redisstore.ClaimLasts)
		for _, d := range debits(0) {
			if got := state(t, s, later, d.Key, "n").Available(mustInstant(t, later)); got != want {
				t.Errorf("%s: got %d left, want %d", d.Key.Entity, got, want)
			}
		}
	}
	for _, took := range []bool{false, true} {
		t.Run(fmt.Sprintf("a take that was claimed, and taken: %t", took), func(t *testing.T) {
			t.Parallel()
			dead, other := pair(t)
			u, err := dead.BeginTake(t.Context(), t0, debits(4), taking("dead"))
			if err == nil && took {
				err = u.Take()
			}
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range []string{"", "other"} {
				_, first, err := other.TakeOnce(t.Context(), t0.Add(redisstore.ClaimLasts), 0, debits(4), *taking("other"))
				if err != nil || string(first) != want {
					t.Fatalf("TakeOnce %d: got the first answer %q and %v, want %q", i, first, err, want)
				}
			}
			if err := u.Take(); !took && !errors.Is(err, redisstore.ErrLostClaim) {
				t.Errorf("the slow process takes: got %v, want that it has lost", err)
			}
			if err := u.Settle(); !errors.Is(err, redisstore.ErrLostClaim) {
				t.Errorf("the slow process settles: got %v, want that it has lost", err)
			}
			left(t, other, 6)
		})
	}
	t.Run("an adjust that was made in part", func(t *testing.T) {
		t.Parallel()
		dead, other := pair(t)
		if err := dead.BeginAdjust(t.Context(), t0, debits(3), &once, "dead"); err != nil {
			t.Fatal(err)
		}
		for i := range 2 {
			first, err := other.AdjustOnce(t.Context(), t0, debits(5), once, []byte("other"))
			if err != nil || string(first) != "dead" {
				t.Fatalf("AdjustOnce %d: got the first answer %q and %v, want that of the dead", i, first, err)
			}
		}
		left(t, other, 7)
	})
	t.Run("a take while its lease ends", func(t *testing.T) {
		t.Parallel()
		s, other := pair(t)
		if _, err := other.AdjustOnce(t.Context(), t0, debits(3), once, []byte("ended")); err != nil {
			t.Fatal(err)
		}
		if err := s.TakeAsEnding(t.Context(), t0, debits(2), &zael.OnceTake{Unless: once.Key}); !errors.Is(err, zael.ErrLeaseClosed) {
			t.Errorf("TakeOnce: got %v, want zael.ErrLeaseClosed", err)
		}
		left(t, other, 7)
	})
}

func mustInstant(t *testing.T, now time.Time) bucket.Instant {
	t.Helper()
	at, err := bucket.At(now)
	if err != nil {
		t.Fatal(err)
	}
	return at
}
