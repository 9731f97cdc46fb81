//go:build linux

package redisstore_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/child"
	"github.com/zeroae/zael/internal/testrig/redistest"
	"github.com/zeroae/zael/redisstore"
)

// The disk has no room for the log: with appendfsync everysec the server refuses writes until there
// is, with always it ends. Callers are told that it is unavailable; nothing that was told is lost.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	child.SurviveFullDisk()
	for _, policy := range []string{"everysec", "always"} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, redistest.Options{Args: []string{"--appendonly", "yes", "--appendfsync", policy}})
			s, err := redisstore.Open("redis://" + server.Address() + "?virtual_time=true")
			opened(t, s, err)
			c := startCrowd(t, s)
			c.until(t, 100)
			if err := server.LimitFiles(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			err = untilUnavailable(t, s)
			if policy == "everysec" {
				if !strings.Contains(err.Error(), "MISCONF") {
					t.Errorf("when there is no room: got %v, want what the server says", err)
				}
				err = server.LimitFiles(t.Context(), child.Unlimited)
			} else {
				<-server.Process().Ended()
				err = server.Restart(t.Context()) // without the limit
			}
			if err != nil {
				t.Fatal(err)
			}
			c.until(t, 100)
			charged := c.end(t, s)
			if told, most := c.told.Load(), c.told.Load()+c.maybe.Load()+int64(s.Stats().Repeated); charged < told || charged > most {
				t.Errorf("charged: got %d, want %d, which was told, to %d", charged, told, most)
			}
		})
	}
}

// untilUnavailable takes from a bucket until that fails.
func untilUnavailable(t *testing.T, s *redisstore.Store) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for {
		_, err := s.Take(ctx, t0, 0, []zael.Debit{alice(ask("other", crowdLimit, 1))})
		switch {
		case err == nil:
		case !errors.Is(err, zael.ErrUnavailable):
			t.Fatalf("when there is no room: got %v, want ErrUnavailable", err)
		default:
			return err
		}
	}
}
