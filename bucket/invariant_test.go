package bucket_test

import (
	"math"
	"math/big"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/zeroae/zael/bucket"
)

// instant is an instant as a rational number.
func instant(at bucket.Instant) *big.Rat { return whole(int64(at)) }

// A meter checks invariant I1: between any two instants a bucket admits at most
// the burst, what refills between them, and less than a unit. It keeps the
// least of Σ − refill before each event, so that all pairs are compared.
type meter struct {
	d     bucket.Definition
	sum   *big.Rat // tokens so far, net
	least *big.Rat
}

func newMeter(d bucket.Definition) *meter { return &meter{d: d, sum: whole(0)} }

// count adds tokens that count from an instant on.
func (m *meter) count(from bucket.Instant, tokens *big.Rat) {
	before := sub(m.sum, refill(m.d, instant(from)))
	if m.least == nil || before.Cmp(m.least) < 0 {
		m.least = before
	}
	m.sum = add(m.sum, tokens)
}

// over is how much more was admitted until an instant, since any earlier one,
// than the burst and the refill.
func (m *meter) over(at bucket.Instant) *big.Rat {
	return sub(sub(sub(m.sum, refill(m.d, instant(at))), m.least), whole(m.d.Burst))
}

// back is the tokens that a give gave.
func back(before, after bucket.State) *big.Rat {
	return quo(sub(whole(after.Mark), whole(before.Mark)), whole(before.Definition.Unit()))
}

// TestAdmittedBetweenAnyTwoInstants is invariant I1, for takes that may reserve
// ahead, charges and gives, at instants that may go backwards.
func TestAdmittedBetweenAnyTwoInstants(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := definitions().Draw(t, "definition")
		at := rapid.OneOf(instants(), rapid.Just(bucket.Instant(0))).Draw(t, "start")
		perToken := int64(d.Period) / d.Amount // 0 if there are several a nanosecond
		unit := quo(whole(1), unitOf(d))
		s := full(d, at)
		m := newMeter(d)
		receipts := []bucket.Receipt{{}}
		for range rapid.IntRange(1, 30).Draw(t, "calls") {
			if int64(bucket.MaxInstant-at)/2 > perToken*4 {
				at += bucket.Instant(rapid.Int64Range(-perToken, 4*perToken).Draw(t, "passes"))
				at = max(at, -bucket.MaxInstant)
			}
			n := rapid.OneOf(rapid.Int64Range(0, min(3, d.Burst)), rapid.Int64Range(0, d.Burst)).Draw(t, "n")
			switch rapid.IntRange(0, 9).Draw(t, "call") {
			case 0:
				after, err := s.Charge(at, n)
				if err != nil {
					continue
				}
				if n > 0 {
					m.count(at, whole(n))
				}
				s = after
			case 1, 2:
				after := s.Give(at, n, rapid.SampledFrom(receipts).Draw(t, "receipt"))
				if after != s {
					m.count(at, back(s, after))
				}
				s = after
				continue
			default:
				ahead := time.Duration(rapid.Int64Range(0, 2*perToken).Draw(t, "ahead"))
				wait := s.Wait(at, n)
				after, ok := s.Take(at, n, ahead)
				if ok != (wait <= min(ahead, time.Duration(bucket.MaxInstant-at))) {
					t.Fatalf("take %d ahead by %v with a wait of %v: got %v", n, ahead, wait, ok)
				}
				if !ok || n == 0 {
					continue
				}
				// It is used after the wait. Drip may leap within a nanosecond.
				used := at.Add(wait)
				m.count(used, whole(n))
				limit := add(unit, refill(d, whole(1)))
				if over := m.over(used); !atMost(over, limit) {
					t.Fatalf("take %d at %d: got %s tokens more than burst and refill, want at most %s", n, at, over.FloatString(3), limit.FloatString(3))
				}
				s = after
			}
			receipts = append(receipts, s.Receipt())
		}
	})
}

// TestOlderNowNeverGives is invariant I4: what an older instant sees is never
// more, and a call at an older instant adds nothing to what there is later.
func TestOlderNowNeverGives(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		at := instants().Draw(t, "at")
		last := later(at).Draw(t, "last")
		d := definitions().Draw(t, "definition")
		s := states(d, last).Draw(t, "state")
		n := amounts(d).Draw(t, "n")

		if a, b := s.Available(at), s.Available(last); a > b {
			t.Fatalf("available: got %d at %d, want at most %d as at %d", a, at, b, last)
		}
		if s.Full(at) && !s.Full(last) {
			t.Fatalf("full: got true at %d, want false as at %d", at, last)
		}
		if a, b := s.Wait(at, n), s.Wait(last, n); a < b {
			t.Fatalf("wait: got %v from %d, want at least %v as from %d", a, at, b, last)
		} else if a < bucket.Never && b > 0 && bucket.Instant(a)+at != bucket.Instant(b)+last {
			t.Fatalf("wait: got %v from %d and %v from %d, want the same instant", a, at, b, last)
		}
		early, earlyOK := s.Take(at, n, 0)
		late, lateOK := s.Take(last, n, 0)
		if earlyOK && (!lateOK || early.Mark > late.Mark) {
			t.Fatalf("take %d: got mark %d at %d, want it at %d too: %v, mark %d", n, early.Mark, at, last, lateOK, late.Mark)
		}
		charged, err := s.Charge(at, n)
		for _, after := range []bucket.State{early, charged} {
			if after.Mark < s.Mark {
				t.Fatalf("mark: got %d after a call, want at least %d as before", after.Mark, s.Mark)
			}
		}
		if err != nil || n == 0 {
			return
		}
		// In use at the last instant: a charge counts in full, whenever it is made.
		if u := d.Unit(); s.Mark >= d.Drip(last) && charged.Mark != s.Mark+n*u {
			t.Fatalf("charge %d at %d: got mark %d, want %d", n, at, charged.Mark, s.Mark+n*u)
		}
	})
}

// TestInterleavedTimestamps has two clocks, 20 ms apart, whose calls alternate:
// each would see the other's tokens refill again if time ran from the last call.
func TestInterleavedTimestamps(t *testing.T) {
	t.Parallel()
	const (
		calls = 10_000
		apart = bucket.Instant(20 * time.Millisecond)
		every = bucket.Instant(100 * time.Microsecond)
	)
	s := full(perSecond(100, 10), 0)
	admitted := 0
	for i := range bucket.Instant(calls) {
		at := i * every
		if i%2 == 1 {
			at += apart
		}
		if after, ok := s.Take(at, 1, 0); ok {
			s = after
			admitted++
		}
	}
	// One at 0, which is back at 20.1 ms; then 10, and 100 a second to 1.0199 s.
	if want := 1 + 10 + 99; admitted != want {
		t.Errorf("admitted: got %d of %d, want %d", admitted, calls, want)
	}
}

// A classic is the textbook token bucket, in exact numbers: a level that drains
// at the rate since the last call.
type classic struct {
	d     bucket.Definition
	level *big.Rat // tokens
	last  bucket.Instant
}

func (c *classic) drain(at bucket.Instant) {
	c.level = greatest(whole(0), sub(c.level, refill(c.d, sub(instant(at), instant(c.last)))))
	c.last = at
}

// TestSameAsClassic compares with the textbook: a bucket is never a unit away
// from it, however often it is read and however long it lives.
func TestSameAsClassic(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := definitions().Draw(t, "definition")
		at := instants().Draw(t, "start")
		if rapid.Bool().Draw(t, "small") { // of the size of its tokens
			d.Burst = min(d.Burst, 20)
		}
		c := &classic{d, whole(0), at}
		s := full(d, at)
		unit := quo(whole(1), unitOf(d))
		perToken := int64(d.Period)/d.Amount + 1
		for range rapid.IntRange(1, 30).Draw(t, "calls") {
			at = at.Add(time.Duration(rapid.OneOf(rapid.Int64Range(0, 3), rapid.Int64Range(0, 2*perToken)).Draw(t, "passes")))
			c.drain(at)
			low, high := sub(c.level, unit), add(c.level, unit)
			got := whole(s.Available(at))
			if least, most := floor(sub(whole(d.Burst), high)), floor(sub(whole(d.Burst), low)); !atMost(least, got) || !atMost(got, most) {
				t.Fatalf("available at %d: got %s, want %s to %s", at, got, least, most)
			}
			n := rapid.OneOf(rapid.Int64Range(0, min(5, d.Burst)), rapid.Int64Range(0, d.Burst)).Draw(t, "n")
			after, ok := s.Take(at, n, 0)
			if left := sub(whole(d.Burst), whole(n)); ok && !atMost(low, left) || !ok && atMost(high, left) {
				t.Fatalf("take %d at %d: got %v, with a level of %s", n, at, ok, c.level.FloatString(6))
			}
			if ok {
				s = after
				c.level = add(c.level, whole(n))
			}
		}
	})
}

// TestPollingGainsAndLosesNothing asks for a token at a steady beat, which does
// not divide the rate: whatever the beat, in ten minutes come the burst and
// exactly what refills.
func TestPollingGainsAndLosesNothing(t *testing.T) {
	t.Parallel()
	d := bucket.Definition{Burst: 7, Amount: 7, Period: 3 * time.Second, Capacity: 7}
	const life = bucket.Instant(10 * time.Minute)
	for _, start := range []bucket.Instant{0, -life / 2, -bucket.MaxInstant, 1_234_567_891} {
		for _, beat := range []time.Duration{7 * time.Millisecond, 13*time.Millisecond + 1, 333 * time.Millisecond, 428_571_429, 2 * time.Second} {
			s := full(d, start)
			admitted := int64(0)
			ask := func(at bucket.Instant) {
				for s.Available(at) > 0 {
					after, ok := s.Take(at, 1, 0)
					if !ok {
						t.Fatalf("take 1 of %d: got false, want true", s.Available(at))
					}
					s = after
					admitted++
				}
				if s.Wait(at, 1) == 0 {
					t.Fatalf("wait with nothing available: got 0, want some time")
				}
			}
			for at := start; at < start+life; at += bucket.Instant(beat) {
				ask(at)
			}
			ask(start + life)
			if want := int64(7 + 7*200); admitted != want {
				t.Errorf("every %v from %d: admitted: got %d, want %d", beat, start, admitted, want)
			}
		}
	}
}

// TestSlowestAndFastestLife has buckets at the ends of the range through all 58
// years, in steps, and counts what they admit.
func TestSlowestAndFastestLife(t *testing.T) {
	t.Parallel()
	const first, last = -bucket.MaxInstant, bucket.MaxInstant
	for _, d := range []bucket.Definition{
		{Burst: 3, Amount: 1, Period: bucket.MaxPeriod, Capacity: 1},
		{Burst: 1e15, Amount: 9e9, Period: time.Second, Capacity: 1},
		{Burst: 1e15, Amount: 1e6, Period: time.Second, Capacity: 1},
		{Burst: 1e15, Amount: 1e6 + 1, Period: time.Second, Capacity: 1},
	} {
		s := full(d, first)
		admitted := whole(0)
		ask := func(at bucket.Instant) {
			if n := s.Available(at); n > 0 {
				s = take(t, s, at, n)
				admitted = add(admitted, whole(n))
			}
		}
		pause := bucket.Instant(23*time.Hour + 7)
		if full := bucket.Instant(d.Burst/d.Amount) * bucket.Instant(d.Period); testing.Short() && 10*pause < full {
			pause *= 10
		}
		for at := first; at < last; at += pause {
			ask(at)
		}
		ask(last)
		want := floor(add(whole(d.Burst), refill(d, sub(instant(last), instant(first)))))
		if more := sub(admitted, want); !atMost(whole(0), more) || !atMost(more, whole(1)) {
			t.Errorf("%+v: admitted: got %s, want %s or one more", d, admitted.FloatString(0), want.FloatString(0))
		}
		if s.Mark > math.MaxInt64/10*9 {
			t.Errorf("%+v: the last mark, %d, is near int64's end", d, s.Mark)
		}
	}
}
