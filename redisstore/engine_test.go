package redisstore_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"go.uber.org/goleak"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/redistest"
	"github.com/zeroae/zael/internal/trial"
	"github.com/zeroae/zael/redisstore"
	"github.com/zeroae/zael/storetest"
)

var engines redistest.Engines

func TestMain(m *testing.M) {
	if job := os.Getenv(jobVariable); job != "" {
		if err := work(context.Background(), job); err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	// The client of a cluster asks for its servers again after up to a second, and closes connections
	// that it no longer needs five seconds later.
	engines.Main(m,
		goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*clusterClient)._refresh.func2"),
		goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*call).DelayDo.func1"),
	)
}

// newClient is a client of a server, of a user with a password if there are two more texts.
func newClient(tb testing.TB, address string, user ...string) rueidis.Client {
	tb.Helper()
	o := rueidis.ClientOption{InitAddress: []string{address}, ForceSingleClient: true, DisableCache: true, DisableRetry: true, AlwaysPipelining: true}
	if len(user) == 2 {
		o.Username, o.Password = user[0], user[1]
	}
	c, err := rueidis.NewClient(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(c.Close)
	return c
}

var namespaces atomic.Int64

// newNamespace is one that no other test uses, as long as any other: a key holds it.
func newNamespace() string { return fmt.Sprintf("ns%04d", namespaces.Add(1)) }

// newStore is a store with a namespace of its own, in virtual time.
func newStore(tb testing.TB, client rueidis.Client, config redisstore.Config) *redisstore.Store {
	tb.Helper()
	config.Namespace = newNamespace()
	config.CallTimeout = time.Minute
	s, err := redisstore.NewTrial(client, &config, trial.Options{VirtualTime: true})
	return opened(tb, s, err)
}

// opened closes a store at the end of the test.
func opened(tb testing.TB, s *redisstore.Store, err error) *redisstore.Store {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(context.WithoutCancel(tb.Context())); err != nil {
			tb.Errorf("Close: got %v, want nil", err)
		}
	})
	return s
}

// permissions returns what docs/redis.md gives a user, for keys of all namespaces.
func permissions(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../docs/redis.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "    ACL SETUSER zael on >PASSWORD ~zael:team-a:* ~zael::* ")
	list, _, _ := strings.Cut(rest, "\n\n")
	if !ok {
		t.Fatal("docs/redis.md has no ACL SETUSER")
	}
	return "ACL SETUSER zael on >s3cret ~zael:* " + strings.Join(strings.Fields(list), " ")
}

// A remote is a store without the role LocalStore: of two methods of a name it has none.
type remote struct {
	*redisstore.Store
	zael.LocalStore
}

// The suite on each server, on Redis by a user who may do no more than the documentation says. On
// Valkey the checks of BucketStore are made twice, with and without TakeLocal before each call, which
// asks no server.
func TestStore(t *testing.T) {
	t.Parallel()
	for _, kind := range []redistest.Kind{redistest.Valkey, redistest.Redis} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			address := engines.Address(t, kind)
			client := newClient(t, address)
			if kind == redistest.Redis {
				if err := client.Do(t.Context(), client.B().Arbitrary(strings.Fields(permissions(t))...).Build()).Error(); err != nil {
					t.Fatal(err)
				}
				client = newClient(t, address, "zael", "s3cret")
			}
			roles := []storetest.Role{
				storetest.Kinds, storetest.EntityStore, storetest.LimitStore, storetest.AdminStore, storetest.OnceStore,
				storetest.Applier, storetest.CapacityReader, storetest.ListStore, storetest.UsageStore, storetest.AuditStore,
			}
			if kind == redistest.Valkey {
				roles = append(roles, storetest.LocalStore)
			}
			storetest.Run(t, func(t *testing.T) zael.Store {
				t.Helper()
				s := newStore(t, client, redisstore.Config{Usage: true})
				if kind == redistest.Valkey {
					return s
				}
				return remote{Store: s}
			}, roles...)
		})
	}
}
