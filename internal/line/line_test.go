package line_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/line"
	"github.com/zeroae/zael/internal/testrig/schedules"
)

// Engines by what a call of theirs takes.
type engine struct {
	name        string
	least, most time.Duration
}

func memory() engine   { return engine{"memory", 0, 0} }
func sqlite() engine   { return engine{"SQLite", time.Millisecond, 5 * time.Millisecond} }
func dynamodb() engine { return engine{"DynamoDB", 5 * time.Millisecond, 10 * time.Millisecond} }

// Callers that give up do not stop service: 50 a second refill, 100 come, and each
// leaves after half a second.
func TestLeaversDoNotStopService(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		processes int
		engine    engine
		burst     int64
		want      int // served in each second from the 5th on
	}{
		{"memory", 1, memory(), 50, 49},
		{"8 on SQLite", 8, sqlite(), 50, 49},
		{"8 on DynamoDB", 8, dynamodb(), 50, 48},
		{"50 on DynamoDB", 50, dynamodb(), 50, 44},
		{"200 on DynamoDB", 200, dynamodb(), 50, 44},
		{"memory, burst 1", 1, memory(), 1, 49},
		{"8 on DynamoDB, burst 1", 8, dynamodb(), 1, 48},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			simulate(t, c.processes, c.engine, []bucket.Definition{perSecond(50, c.burst)}, func(f *fleet) {
				const from = 5
				to := from + schedules.Count(t, 30)
				random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a simulation
				for next := time.Duration(0); next < time.Duration(to)*time.Second; next += time.Duration(random.ExpFloat64() * float64(10*time.Millisecond)) {
					f.at(next)
					f.come(random.IntN(c.processes), 30*time.Second, 500*time.Millisecond, 1)
				}
				f.wg.Wait()
				least, sum := 1000, 0
				for s := from; s < to; s++ {
					n := f.servedIn(time.Duration(s)*time.Second, time.Duration(s+1)*time.Second)
					least, sum = min(least, n), sum+n
				}
				t.Logf("least %d, mean %.1f a second; %.2f calls an admitted one", least, float64(sum)/float64(to-from), f.callsAdmitted())
				if least < c.want {
					t.Errorf("served a second, least: got %d, want %d", least, c.want)
				}
			})
		})
	}
}

// 1 a second, one taken, 100 wait and leave in the order in which they came: the
// next is served when a token is there.
func TestAllLeaveInOrder(t *testing.T) {
	t.Parallel()
	simulate(t, 1, memory(), []bucket.Definition{perSecond(1, 1)}, func(f *fleet) {
		f.come(0, time.Hour, 0, 1)
		for i := range 100 {
			f.come(0, time.Hour, 100*time.Millisecond+time.Duration(i)*time.Millisecond, 1)
		}
		f.at(500 * time.Millisecond)
		f.come(0, time.Hour, 0, 1)
		f.wg.Wait()
		f.wantServed(0, time.Second)
	})
}

// 20 a second, burst 1: 41 come and all but the last leave just after 0.5 s.
func TestLastHasTheNextToken(t *testing.T) {
	t.Parallel()
	simulate(t, 1, memory(), []bucket.Definition{perSecond(20, 1)}, func(f *fleet) {
		f.come(0, time.Hour, 0, 1) // the token that is there
		for range 40 {
			f.come(0, time.Hour, 501*time.Millisecond, 1)
		}
		f.come(0, time.Hour, 0, 1)
		f.at(502 * time.Millisecond)
		f.come(0, time.Hour, 0, 1)
		f.wg.Wait()
		var want []time.Duration
		for i := range 12 + 1 {
			want = append(want, time.Duration(i)*50*time.Millisecond)
		}
		f.wantServed(want...)
	})
}

// 200 in line at 20 a second, 30 of 100 leave: the others are served as if those
// had not come, one each 50 ms.
func TestNothingIsLostBehindLeavers(t *testing.T) {
	t.Parallel()
	simulate(t, 1, memory(), []bucket.Definition{perSecond(20, 1)}, func(f *fleet) {
		random := rand.New(rand.NewPCG(3, 4)) //nolint:gosec // a simulation
		leave := 0
		for i := range 201 {
			patience := time.Duration(0)
			if i%10 > 6 {
				leave++
				patience = time.Millisecond + time.Duration(random.Int64N(int64(time.Millisecond)))
			}
			f.come(0, time.Hour, patience, 1)
		}
		f.wg.Wait()
		var want []time.Duration
		for i := range 201 - leave {
			want = append(want, time.Duration(i)*50*time.Millisecond)
		}
		f.wantServed(want...)
	})
}

// 1 a minute: nine wait and leave at 30 s; who comes at 31 s has the next token.
func TestNewcomerInheritsSlowLimit(t *testing.T) {
	t.Parallel()
	perMinute := bucket.Definition{Burst: 1, Amount: 1, Period: time.Minute, Capacity: 1}
	simulate(t, 1, memory(), []bucket.Definition{perMinute}, func(f *fleet) {
		f.come(0, time.Hour, 0, 1)
		for range 9 {
			f.come(0, time.Hour, 30*time.Second, 1)
		}
		f.at(31 * time.Second)
		f.come(0, time.Hour, 0, 1)
		f.wg.Wait()
		f.wantServed(0, time.Minute)
	})
}

// A place that is larger than what its heir asks for serves several.
func TestLargePlaceIsDivided(t *testing.T) {
	t.Parallel()
	simulate(t, 1, memory(), []bucket.Definition{perSecond(10, 10)}, func(f *fleet) {
		f.come(0, time.Hour, 0, 10)
		f.come(0, time.Hour, 10*time.Millisecond, 5)
		for range 3 {
			f.come(0, time.Hour, 0, 2)
		}
		f.wg.Wait()
		f.wantServed(0, 200*time.Millisecond, 400*time.Millisecond, 600*time.Millisecond)
	})
}

// A small one may pass a larger one that cannot use what is there, and does not
// delay it.
func TestSmallPassesLarge(t *testing.T) {
	t.Parallel()
	simulate(t, 1, memory(), []bucket.Definition{perSecond(10, 10)}, func(f *fleet) {
		f.come(0, time.Hour, 0, 10)
		f.come(0, time.Hour, 10*time.Millisecond, 2)
		f.come(0, time.Hour, 0, 5)
		f.come(0, time.Hour, 0, 2)
		f.wg.Wait()
		for _, s := range f.done {
			if s.err == nil && s.amounts[0] == 5 && s.end > 700*time.Millisecond {
				t.Errorf("the 5 were served at %v, want 700 ms at the latest", s.end)
			}
		}
		if n := f.servedIn(0, 901*time.Millisecond); n != 3 {
			t.Errorf("served by 900 ms: got %d, want 3", n)
		}
	})
}

// A free place is used without a call until the drip has passed it.
func TestFreePlaceIsUsedInTime(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		after time.Duration // of the place's instant
		calls int
	}{
		{"in time", 900 * time.Millisecond, 0},
		{"void", 1010 * time.Millisecond, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			simulate(t, 2, memory(), []bucket.Definition{perSecond(10, 10)}, func(f *fleet) {
				f.come(0, time.Hour, 0, 10)
				f.at(10 * time.Millisecond)
				f.come(0, time.Hour, 20*time.Millisecond, 1) // the place that becomes free
				f.at(15 * time.Millisecond)
				behind := []line.Part{{Definition: f.defs[0], Amount: 1}}
				if a := f.stores[1].Take(t.Context(), "k", behind, instant(), time.Second); !a.Taken {
					t.Fatal("nothing stands behind the place")
				}
				f.at(100*time.Millisecond + c.after)
				before, _ := f.table.counts()
				f.come(0, time.Hour, 0, 1)
				f.at(100*time.Millisecond + c.after + time.Microsecond)
				if now, _ := f.table.counts(); now-before != c.calls {
					t.Errorf("calls: got %d, want %d", now-before, c.calls)
				}
			})
		})
	}
}

// What ends the line is given back when nobody waits: the next pays no wait for it.
func TestEndOfLineIsGivenBack(t *testing.T) {
	t.Parallel()
	simulate(t, 2, memory(), []bucket.Definition{perSecond(1, 1)}, func(f *fleet) {
		f.come(0, time.Hour, 0, 1)
		f.come(0, time.Hour, 950*time.Millisecond, 1)
		f.at(960 * time.Millisecond)
		if _, gives := f.table.counts(); gives != 1 {
			t.Errorf("gives: got %d, want 1", gives)
		}
		f.come(1, time.Hour, 0, 1)
		f.wg.Wait()
		f.wantServed(0, time.Second)
	})
}

// A head whose time is too short for the line is refused, and holds nobody up.
func TestHopelessHeadIsRefused(t *testing.T) {
	t.Parallel()
	simulate(t, 1, memory(), []bucket.Definition{perSecond(1, 10)}, func(f *fleet) {
		f.come(0, time.Hour, 0, 10)
		f.come(0, 4*time.Second, 0, 5)
		f.come(0, time.Hour, 0, 1)
		f.wg.Wait()
		f.wantServed(0, time.Second)
		i := slices.IndexFunc(f.done, func(s served) bool { return s.err != nil })
		if i < 0 {
			t.Fatal("the 5 were served, want a refusal")
		}
		var refusal *line.RefusedError
		if s := f.done[i]; !errors.As(s.err, &refusal) || s.end > time.Millisecond {
			t.Errorf("got %v at %v, want a refusal at once", s.err, s.end)
		}
	})
}

// A queue is bounded; who finds it full is told how many are in front.
func TestFullQueueRefuses(t *testing.T) {
	t.Parallel()
	simulate(t, 1, memory(), []bucket.Definition{perSecond(1000, 1)}, func(f *fleet) {
		const most = 200
		f.lines[0] = line.New(f.stores[0], line.Config{Now: instant, Near: 2 * time.Millisecond, Seed: 1, MaxQueue: most})
		for range most + 1 {
			f.come(0, time.Hour, 0, 1)
		}
		_, err := f.acquire(context.Background(), 0, time.Hour, 1)
		var refused *line.RefusedError
		if !errors.As(err, &refused) || refused.Queued != most {
			t.Fatalf("got %v, want a refusal with %d in front", err, most)
		}
		if wait := refused.States[0].Wait(refused.At, 1); wait != (most+1)*time.Millisecond {
			t.Errorf("wait behind them: got %v, want 201 ms", wait)
		}
	})
}

// 200 processes of which nobody leaves ask the store at most 2.5 times for each
// that is admitted.
func TestManyProcessesAskLittle(t *testing.T) {
	t.Parallel()
	simulate(t, 200, dynamodb(), []bucket.Definition{perSecond(50, 50)}, func(f *fleet) {
		random := rand.New(rand.NewPCG(5, 6)) //nolint:gosec // a simulation
		for next := time.Duration(0); next < 60*time.Second; next += time.Duration(random.ExpFloat64() * float64(time.Second) / 45) {
			f.at(next)
			f.come(random.IntN(200), 30*time.Second, 0, 1)
		}
		f.wg.Wait()
		if calls := f.callsAdmitted(); calls > 2.5 {
			t.Errorf("calls an admitted one: got %.2f, want at most 2.5", calls)
		}
	})
}

// Whatever comes, leaves and dies, a window never holds more than it may, nobody
// waits longer than agreed, and nothing is left.
func TestRandom(t *testing.T) {
	t.Parallel()
	for seed := range schedules.Seeds(t, 60) {
		random := rand.New(rand.NewPCG(seed, 7)) //nolint:gosec // a simulation
		defs := []bucket.Definition{perSecond(1+random.Int64N(100), 1+random.Int64N(60))}
		e := []engine{memory(), sqlite(), dynamodb()}[seed%3]
		simulate(t, 3, e, defs, func(f *fleet) {
			for range 200 {
				time.Sleep(time.Duration(random.Int64N(int64(40 * time.Millisecond)))) //nolint:forbidigo // of the bubble
				patience := time.Duration(0)
				if random.IntN(3) == 0 {
					patience = 1 + time.Duration(random.Int64N(int64(time.Second)))
				}
				f.come(random.IntN(3), 1+time.Duration(random.Int64N(int64(3*time.Second))), patience, random.Int64N(min(8, 1+defs[0].Burst)))
			}
			f.wg.Wait()
			if t.Failed() {
				t.Fatalf("seed %d: %+v", seed, defs)
			}
		})
	}
}

// With two limits nobody is admitted by one alone, and each is kept.
func TestTwoLimits(t *testing.T) {
	t.Parallel()
	defs := []bucket.Definition{perSecond(10, 10), perSecond(1000, 1000)}
	simulate(t, 4, sqlite(), defs, func(f *fleet) {
		random := rand.New(rand.NewPCG(8, 9)) //nolint:gosec // a simulation
		for range 300 {
			time.Sleep(time.Duration(random.Int64N(int64(100 * time.Millisecond)))) //nolint:forbidigo // of the bubble
			f.come(random.IntN(4), 5*time.Second, 0, 1, 1+random.Int64N(200))
		}
		f.wg.Wait()
	})
}

// Timers are late, and with a burst of one token a place can be used for a moment only.
// In real time each caller is served by its first place all the same, at the instant
// at which it was ready.
func TestTimersAreLate(t *testing.T) {
	t.Parallel()
	now := func() bucket.Instant {
		at, err := bucket.At(time.Now())
		if err != nil {
			panic(err)
		}
		return at
	}
	const callers = 25
	d := perSecond(1000, 1)
	s := &store{table: &table{states: make([]bucket.State, 1)}}
	l := line.New(s, line.Config{Now: now})
	defer l.Close()
	part := []line.Part{{Name: "rps", Definition: d, Amount: 1}}
	first := s.Take(t.Context(), "key", part, now(), 0)
	last := first.At
	for range callers {
		g, err := l.Wait(t.Context(), "key", part, time.Hour, line.Answer{At: now(), States: slices.Clone(s.states)})
		if err != nil {
			t.Fatal(err)
		}
		if after := time.Duration(g.At - last); after < time.Millisecond-time.Microsecond { // a unit less, at the most
			t.Errorf("served %v after the one before, want 1 ms at least", after)
		}
		last = g.At
	}
	if takes, _ := s.counts(); takes != 1+callers {
		t.Errorf("takes for %d callers: got %d, want one for each", callers, takes-1)
	}
}

// The faster of two limits refills before a place of the slower one is ready; the
// place can be used all the same.
func TestFasterLimitDoesNotVoidPlaces(t *testing.T) {
	t.Parallel()
	for _, defs := range [][]bucket.Definition{{perSecond(100, 100), perSecond(2, 2)}, {perSecond(2, 2), perSecond(100, 100)}} {
		simulate(t, 1, memory(), defs, func(f *fleet) {
			for range 5 {
				f.come(0, time.Hour, 0, 1, 1)
			}
			f.wg.Wait()
			f.wantServed(0, 0, 500*time.Millisecond, time.Second, 1500*time.Millisecond)
		})
	}
}

// If the store fails, all who need it are told, and the queue ends.
func TestStoreFails(t *testing.T) {
	t.Parallel()
	down := errors.New("down")
	simulate(t, 1, memory(), []bucket.Definition{perSecond(1, 1)}, func(f *fleet) {
		f.stores[0].fault = func(n int) error {
			if n > 2 {
				return down
			}
			return nil
		}
		f.come(0, time.Hour, 0, 1)
		f.at(time.Millisecond)
		for range 5 {
			f.come(0, time.Hour, 0, 1)
		}
		f.wg.Wait()
		for _, s := range f.done[1:] {
			if !errors.Is(s.err, down) {
				t.Errorf("got %v, want the store's error", s.err)
			}
		}
	})
}

// Close tells all, and leaves nothing behind.
func TestClose(t *testing.T) {
	t.Parallel()
	simulate(t, 1, dynamodb(), []bucket.Definition{perSecond(1, 1)}, func(f *fleet) {
		for range 5 {
			f.come(0, time.Hour, 0, 1)
		}
		f.at(100 * time.Millisecond)
		f.lines[0].Close()
		f.wg.Wait()
		closed := 0
		for _, s := range f.done {
			if errors.Is(s.err, line.ErrClosed) {
				closed++
			}
		}
		if closed != 4 {
			t.Errorf("told that it is closed: got %d, want 4", closed)
		}
		if _, err := f.acquire(context.Background(), 0, time.Hour, 1); !errors.Is(err, line.ErrClosed) {
			t.Errorf("after that: got %v, want %v", err, line.ErrClosed)
		}
	})
}
