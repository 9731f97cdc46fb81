package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/testrig/redistest"
	"github.com/zeroae/zael/internal/testrig/schedules"
	"github.com/zeroae/zael/internal/testrig/tcpfault"
	"github.com/zeroae/zael/redisstore"
)

// A tally is what the callers of a faulty network were told of one limit.
type tally struct {
	mu                               sync.Mutex
	took, maybeTook, gave, maybeGave int64
}

func (t *tally) add(to *int64, n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	*to += n
}

// Stores of several clients behind a network that loses requests and answers, is silent, and
// late: what a caller was told holds; a give is applied once at most, and a take that was repeated as
// its answer was lost twice only if the other client wrote between.
func TestFaultySchedules(t *testing.T) {
	t.Parallel()
	direct := newClient(t, engines.Address(t, redistest.Valkey))
	for seed := range schedules.Seeds(t, 4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			faulty(t, seed, newStore(t, direct, redisstore.Config{}), network{
				func(rng *rand.Rand) tcpfault.Fault { return tcpfault.Fault(1 + rng.IntN(int(tcpfault.Faults)-1)) }, 2, 20, time.Second, 2,
			})
		})
	}
}

// Where connections are reset, callers wait, and no other process writes meanwhile, nothing stays
// open: what they were told is what is charged, to the token.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	direct := newClient(t, engines.Address(t, redistest.Valkey))
	for seed := range schedules.Seeds(t, 4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			faulty(t, seed, newStore(t, direct, redisstore.Config{}), network{
				func(rng *rand.Rand) tcpfault.Fault {
					return []tcpfault.Fault{tcpfault.LoseRequest, tcpfault.DropReply, tcpfault.LateReply}[rng.IntN(3)]
				}, 10, 5, time.Minute, 1,
			})
		})
	}
}

// A network has faults, this many and up to so many more of 100 requests, and callers that
// wait so long at most.
type network struct {
	fault    func(*rand.Rand) tcpfault.Fault
	least    int
	more     int
	patience time.Duration
	clients  int
}

func faulty(t *testing.T, seed uint64, direct *redisstore.Store, n network) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 0))
	var mu sync.Mutex
	quiet := false
	often := n.least + rng.IntN(n.more)
	proxy, err := tcpfault.New(engines.Address(t, redistest.Valkey), func() tcpfault.Action {
		mu.Lock()
		defer mu.Unlock()
		if quiet || rng.IntN(100) >= often {
			return tcpfault.Action{}
		}
		return tcpfault.Action{Fault: n.fault(rng), Delay: time.Duration(rng.Int64N(int64(20 * time.Millisecond)))}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	rate := define(1_000_000, 1, bucket.MaxPeriod)
	quota, err := zael.EachYear("quota", 1_000_000).Definition()
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"rate", "quota"}
	definitions := map[string]bucket.Definition{"rate": rate, "quota": quota}
	tallies := map[string]*tally{"rate": new(tally), "quota": new(tally)}
	key := alice().Key
	var wg sync.WaitGroup
	stores := make([]*redisstore.Store, n.clients)
	for client := range n.clients {
		u := fmt.Sprintf("redis://%s?virtual_time=true&namespace=%s", proxy.Address(), direct.OwnNamespace())
		s, err := redisstore.Open(u)
		stores[client] = opened(t, s, err)
		for caller := range 3 {
			rng := rand.New(rand.NewPCG(seed, uint64(client*10+caller+1)))
			wg.Go(func() {
				for range 25 {
					name := names[rng.IntN(2)]
					c := zael.Charge{Name: name, Definition: definitions[name], Amount: 1 + rng.Int64N(100)}
					debits := []zael.Debit{{Key: key, Charges: []zael.Charge{c}}}
					ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond+time.Duration(rng.Int64N(int64(n.patience))))
					_, err := s.Take(ctx, t0, 0, debits)
					cancel()
					total := tallies[name]
					if err != nil {
						if !errors.Is(err, zael.ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded) {
							t.Errorf("Take: got %v, want it unavailable, or too late", err)
						}
						total.add(&total.maybeTook, c.Amount)
						continue
					}
					total.add(&total.took, c.Amount)
					if rng.IntN(2) > 0 {
						continue
					}
					back := debits[0].Charges[0]
					back.Amount = -1 - rng.Int64N(c.Amount)
					ctx, cancel = context.WithTimeout(t.Context(), 5*time.Millisecond+time.Duration(rng.Int64N(int64(n.patience))))
					_, err = s.Adjust(ctx, t0, []zael.Debit{{Key: key, Charges: []zael.Charge{back}}})
					cancel()
					if err == nil && debits[0].Charges[0].Receipt.Generation != 0 {
						total.add(&total.gave, -back.Amount)
					} else {
						total.add(&total.maybeGave, -back.Amount)
					}
				}
			})
		}
	}
	wg.Wait()
	mu.Lock()
	quiet = true
	mu.Unlock()
	for name, total := range tallies {
		var used int64
		s := state(t, direct, t0, key, name)
		if !s.Absent() {
			at, err := bucket.At(t0)
			if err != nil {
				t.Fatal(err)
			}
			used = s.Definition.Burst - s.Available(at)
		}
		const largest = 100 // of an amount
		repeated := int64(0)
		for _, s := range stores[1:] { // nobody else writes if there is one
			repeated += int64(s.Stats().Repeated+stores[0].Stats().Repeated) * largest
		}
		least, most := total.took-total.gave-total.maybeGave, total.took+total.maybeTook-total.gave+repeated
		t.Logf("%s: %d are charged, of %d to %d", name, used, least, most)
		if used < least || used > most {
			t.Errorf("%s: %d are charged, want %d to %d", name, used, least, most)
		}
	}
}

// What is wrong with a server is told at once, and clearly; it is unavailable only if that may
// pass. No take that failed is charged.
func TestServerErrors(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{Kind: redistest.Redis})
	replica := redistest.StartReplica(t, server, redistest.Redis)
	evicting := redistest.Start(t, redistest.Options{Kind: redistest.Redis, Args: []string{"--maxmemory-policy", "allkeys-lru"}})
	for _, command := range []string{
		"ACL SETUSER writer on >s3cret ~* +@all", "ACL SETUSER reader on >s3cret ~* +@read +info +time",
		"ACL SETUSER elsewhere on >s3cret ~other:* +@all",
	} {
		if _, err := server.Ask(t.Context(), command); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name, url   string
		unavailable bool
		says        string
		before      string // a command for the server
		after       string
	}{
		{"nothing listens", "redis://127.0.0.1:1", true, "connection refused", "", ""},
		{"wrong password", "redis://writer:wr0ng@" + server.Address(), false, "WRONGPASS", "", ""},
		{"may not write", "redis://reader:s3cret@" + server.Address(), false, "NOPERM", "", ""},
		{"may not use the keys", "redis://elsewhere:s3cret@" + server.Address(), false, "NOPERM", "", ""},
		{"a replica", "redis://" + replica.Address(), true, "READONLY", "", ""},
		{"out of memory", "redis://" + server.Address(), true, "OOM", "CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"},
		{"no password", "redis://" + server.Address(), false, "wants a password", "CONFIG SET requirepass s3cret", ""},
		{"no TLS there", "rediss://" + server.Address(), true, "no answer in time", "", ""},
		{"forgets", "redis://" + evicting.Address(), false, "maxmemory-policy is allkeys-lru", "", ""},
	} {
		if tt.before != "" {
			if _, err := server.Ask(t.Context(), tt.before); err != nil {
				t.Fatal(err)
			}
		}
		s, err := redisstore.Open(tt.url)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		_, err = s.Take(ctx, time.Now(), 0, []zael.Debit{alice(ask("rpm", define(10, 10, time.Minute), 1))})
		cancel()
		if err == nil || errors.Is(err, zael.ErrUnavailable) != tt.unavailable || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: got %v, want an error with %q, unavailable: %t", tt.name, err, tt.says, tt.unavailable)
		} else if strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "wr0ng") {
			t.Errorf("%s: the error shows the password: %v", tt.name, err)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if tt.after != "" {
			if _, err := server.Ask(t.Context(), tt.after); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A server that is silent holds nobody beyond his deadline, and nothing is taken for those who
// left. One that comes back is used again.
func TestSilentServer(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, redistest.Options{})
	s, err := redisstore.Open("redis://" + server.Address() + "?virtual_time=true")
	opened(t, s, err)
	d := define(10, 1, bucket.MaxPeriod)
	take := func(patience time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err := s.Take(ctx, t0, 0, []zael.Debit{alice(ask("rpm", d, 1))})
		return err
	}
	if err := take(time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := server.Process().Pause(); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if err := take(100 * time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a silent server: got %v, want %v", err, context.DeadlineExceeded)
	}
	if took := time.Since(begun); took > 30*time.Second {
		t.Errorf("a silent server: got an answer after %v", took)
	}
	if err := server.Process().Resume(); err != nil {
		t.Fatal(err)
	}
	if err := take(time.Minute); err != nil {
		t.Errorf("after it: got %v, want nil", err)
	}
	at, err := bucket.At(t0)
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for left := int64(0); left != 8; { // what the silent one applied late is given back
		if left = state(t, s, t0, alice().Key, "rpm").Available(at); left > 8 || time.Now().After(deadline) {
			t.Fatalf("left: got %d, want 8", left)
		}
	}
}
