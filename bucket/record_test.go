package bucket_test

import (
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/zeroae/zael/bucket"
)

var recordNames = []string{"rpm", "tpm", "in-flight"}

// records draws buckets with some of the limits that charges name, and another.
func records(at bucket.Instant) *rapid.Generator[bucket.Record] {
	return rapid.Custom(func(t *rapid.T) bucket.Record {
		r := bucket.Record{Latest: instants().Draw(t, "latest"), Forgotten: instants().Draw(t, "forgotten")}
		for _, name := range append(recordNames, "other") {
			if rapid.Bool().Draw(t, name+" is there") {
				state := states(definitions().Draw(t, "definition"), at).Draw(t, name)
				r.Limits = append(r.Limits, bucket.LimitState{Name: name, State: state})
			}
		}
		return r
	})
}

// chargesOf draws charges of limits, often under the definition that they have.
func chargesOf(r bucket.Record, repeated bool, least int64) *rapid.Generator[[]bucket.Charge] {
	return rapid.Custom(func(t *rapid.T) []bucket.Charge {
		names := rapid.Permutation(recordNames).Draw(t, "names")[:rapid.IntRange(1, 3).Draw(t, "n")]
		if repeated {
			names = append(names, names[0])
		}
		var charges []bucket.Charge
		for _, name := range names {
			kept := r.State(name)
			d := kept.Definition
			if kept.Absent() || rapid.Bool().Draw(t, "another") {
				d = definitions().Draw(t, "definition")
			}
			charges = append(charges, bucket.Charge{
				Name: name, Definition: d, Amount: near(least, bucket.MaxAmount, least, 0, 1, d.Burst).Draw(t, "amount"),
				Receipt: bucket.Receipt{Mark: kept.Mark, Generation: kept.Generation},
			})
		}
		return charges
	})
}

func copyRecord(r bucket.Record) bucket.Record {
	r.Limits = slices.Clone(r.Limits)
	return r
}

// laterOf returns the later of an instant and one that is 0 if it is not known.
func laterOf(at, known bucket.Instant) bucket.Instant {
	if known == 0 {
		return at
	}
	return max(at, known)
}

// under returns a limit of a record under a definition.
func under(r bucket.Record, name string, d bucket.Definition, at bucket.Instant, birth uint64) bucket.State {
	if s := r.State(name); !s.Absent() {
		return s.Redefine(d, laterOf(at, r.Latest), 0)
	}
	return bucket.State{}.Redefine(d, laterOf(at, r.Forgotten), birth)
}

// A take does to each limit what State.Redefine and State.Take do, to all of them or
// to none, and changes no other.
func TestRecordTake(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		at := instants().Draw(t, "at")
		r := records(at).Draw(t, "record")
		charges := chargesOf(r, false, 0).Draw(t, "charges")
		ahead := rapid.SampledFrom([]time.Duration{0, time.Second, time.Hour}).Draw(t, "ahead")

		before, want := copyRecord(r), bucket.Fits
		var next []bucket.State
		for _, c := range charges {
			if r.State(c.Name).Stale(c.Definition) {
				want = bucket.StaleLimits
			}
			s, ok := under(r, c.Name, c.Definition, at, 7).Take(at, c.Amount, ahead)
			if !ok {
				want = max(want, bucket.Exceeds)
			}
			next = append(next, s)
		}
		if got := r.Take(charges, at, ahead, 7); got != want {
			t.Fatalf("got outcome %d, want %d", got, want)
		}
		if !slices.Equal(r.Limits, before.Limits) || r.Latest != before.Latest {
			t.Fatalf("the record before Finish: got %+v, want it as it was, %+v", r, before)
		}
		changed := r.Finish(want, charges, at)
		for i, c := range charges {
			kept, is := before.State(c.Name), r.State(c.Name)
			switch want {
			case bucket.Fits:
				if c.Taken().Mark != next[i].Mark || c.Taken().Generation != next[i].Generation || c.State != next[i] {
					t.Fatalf("%s: got %+v and receipt %+v, want %+v", c.Name, c.State, c.Receipt, next[i])
				}
				if added := kept.Absent() && c.Amount == 0; added != is.Absent() || !added && is != next[i] {
					t.Fatalf("%s: got %+v kept, want %+v", c.Name, is, next[i])
				}
			case bucket.Exceeds:
				shown := under(before, c.Name, c.Definition, at, 0)
				if c.State != shown || c.Receipt != (bucket.Receipt{}) {
					t.Fatalf("%s: got %+v shown with receipt %+v, want %+v and none", c.Name, c.State, c.Receipt, shown)
				}
				if sooner := !kept.Absent() && shown.Wait(at, c.Amount) < kept.Wait(at, c.Amount); sooner && is != shown || !sooner && is != kept {
					t.Fatalf("%s, sooner under its definition %v: got %+v kept of %+v", c.Name, sooner, is, kept)
				}
			case bucket.StaleLimits:
				if c.State != kept || is != kept {
					t.Fatalf("%s: got %+v shown and %+v kept, want %+v", c.Name, c.State, is, kept)
				}
			}
		}
		if same := slices.Equal(r.Limits, before.Limits); !same && !changed {
			t.Fatalf("got no change reported, the record was %+v and is %+v", before, r)
		}
		if r.State("other") != before.State("other") {
			t.Fatalf("a limit that no charge names: got %+v, want %+v", r.State("other"), before.State("other"))
		}
		if want == bucket.Fits && len(r.Limits) > 0 && r.Latest < at || r.Latest < before.Latest && before.Latest != 0 {
			t.Fatalf("latest instant after %d: got %d, before it was %d", at, r.Latest, before.Latest)
		}
	})
}

// An adjust does what State.Charge, State.Give and State.Redefine do, in order.
func TestRecordAdjust(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		at := instants().Draw(t, "at")
		r := records(at).Draw(t, "record")
		charges := chargesOf(r, rapid.Bool().Draw(t, "repeated"), -bucket.MaxAmount).Draw(t, "charges")

		before := copyRecord(r)
		want, wantBad := copyRecord(r), -1
		var states []bucket.State
		for i, c := range charges {
			s := want.State(c.Name)
			switch {
			case c.Amount < 0:
				s = s.Give(laterOf(at, r.Latest), -c.Amount, c.Receipt)
			case s.Absent() && c.Amount == 0:
			default:
				if !s.Stale(c.Definition) {
					s = under(want, c.Name, c.Definition, at, 7)
				}
				var err error
				if s, err = s.Charge(at, c.Amount); err != nil && wantBad < 0 {
					wantBad = i
				}
			}
			states = append(states, s)
			if j := slices.IndexFunc(want.Limits, func(l bucket.LimitState) bool { return l.Name == c.Name }); j >= 0 {
				want.Limits[j].State = s
			} else if !s.Absent() {
				want.Limits = append(want.Limits, bucket.LimitState{Name: c.Name, State: s})
			}
		}
		bad, err := r.Adjust(charges, at, 7)
		if !slices.Equal(r.Limits, before.Limits) {
			t.Fatalf("the record before Finish: got %+v, want it as it was, %+v", r, before)
		}
		if wantBad >= 0 {
			if bad != wantBad || !errors.Is(err, bucket.ErrRange) {
				t.Fatalf("got %v about charge %d, want bucket.ErrRange about %d", err, bad, wantBad)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if changed := r.Finish(bucket.Fits, charges, at); changed != (len(want.Limits) > 0) {
			t.Fatalf("got changed %v of %+v", changed, r)
		}
		for i, c := range charges {
			if c.State != states[i] {
				t.Fatalf("charge %d: got %+v, want %+v", i, c.State, states[i])
			}
		}
		if !slices.Equal(r.Limits, want.Limits) {
			t.Fatalf("got %+v kept, want %+v", r.Limits, want.Limits)
		}
	})
}

// Limits that no charge names need not be in a record, and the order of those
// that are does not matter.
func TestRecordInPart(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		at := instants().Draw(t, "at")
		whole := records(at).Draw(t, "record")
		charges := chargesOf(whole, false, 0).Draw(t, "charges")
		part := copyRecord(whole)
		part.Limits = slices.DeleteFunc(part.Limits, func(l bucket.LimitState) bool {
			return !slices.ContainsFunc(charges, func(c bucket.Charge) bool { return c.Name == l.Name })
		})
		slices.Reverse(part.Limits)
		same := slices.Clone(charges)
		one, two := whole.Take(charges, at, 0, 7), part.Take(same, at, 0, 7)
		whole.Finish(one, charges, at)
		part.Finish(two, same, at)
		if one != two || !slices.Equal(charges, same) {
			t.Fatalf("got %d and %+v of a part, %d and %+v of the whole", two, same, one, charges)
		}
		for _, name := range recordNames {
			if whole.State(name) != part.State(name) && part.State(name) != (bucket.State{}) {
				t.Fatalf("%s: got %+v of a part, %+v of the whole", name, part.State(name), whole.State(name))
			}
		}
	})
}

// An instant of 0 stands for none; one that a store is to remember is never 0.
func TestLatest(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ known, at, want bucket.Instant }{
		{0, -5, -5}, {0, 5, 5}, {0, 0, 1}, {-5, 0, 1}, {-5, -9, -5}, {5, 0, 5}, {5, 9, 9}, {math.MinInt64, -9, -9},
	} {
		if got := bucket.Latest(c.known, c.at); got != c.want {
			t.Errorf("Latest(%d, %d): got %d, want %d", c.known, c.at, got, c.want)
		}
	}
	var r bucket.Record
	d := bucket.Definition{Burst: 10, Amount: 10, Period: time.Second, Capacity: 10}
	charges := []bucket.Charge{{Name: "rpm", Definition: d, Amount: 10}}
	r.Finish(r.Take(charges, 0, 0, 1), charges, 0)
	faster := d
	faster.Amount = 1000
	old := []bucket.Charge{{Name: "rpm", Definition: faster, Amount: 1}}
	if got := r.Take(old, -bucket.Instant(time.Second), 0, 2); got != bucket.Exceeds {
		t.Errorf("a take a second before the epoch, of a bucket emptied at the epoch: got outcome %d, want Exceeds", got)
	}
}

// What a bucket without its full limits admits is what it admits with them, by any
// clock that is not behind the instant at which they were full. By one that is, a
// limit that was forgotten is as full as it was then.
func TestRecordForget(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		full := bucket.Latest(0, instants().Draw(t, "full")) // 0 stands for none
		whole := records(full).Draw(t, "record")
		whole.Latest, whole.Forgotten = full, 0
		charges := chargesOf(whole, false, 0).Draw(t, "charges")
		named := charges[:rapid.IntRange(0, len(charges)).Draw(t, "named")]

		part := copyRecord(whole)
		n := part.Forget(full, named)
		if n != len(whole.Limits)-len(part.Limits) || (n > 0) != (part.Forgotten != 0) {
			t.Fatalf("got %d forgotten by %d, %d limits are left of %d", n, part.Forgotten, len(part.Limits), len(whole.Limits))
		}
		for _, l := range whole.Limits {
			gone := part.State(l.Name).Absent()
			isNamed := slices.ContainsFunc(named, func(c bucket.Charge) bool { return c.Name == l.Name })
			if gone != (l.State.Forgettable(full) && !isNamed) || gone && !l.State.Full(full) {
				t.Fatalf("%s, named %v: got it forgotten %v: %+v", l.Name, isNamed, gone, l.State)
			}
		}

		at := later(full).Draw(t, "at")
		one, two := slices.Clone(charges), slices.Clone(charges)
		if got, want := part.Take(two, at, 0, 7), whole.Take(one, at, 0, 7); got != want && want != bucket.StaleLimits {
			t.Fatalf("at %d: got outcome %d, with the limits that were forgotten %d", at, got, want)
		}
		older := rapid.Map(later(-full), func(at bucket.Instant) bucket.Instant { return -at }).Draw(t, "older")
		for _, c := range charges {
			if whole.State(c.Name).Absent() || !part.State(c.Name).Absent() {
				continue
			}
			c.Amount = 0
			behind := []bucket.Charge{c}
			part.Take(behind, older, 0, 7)
			if got := behind[0].State; !got.Full(bucket.Latest(0, full)) || got.Mark < c.Definition.Drip(full) {
				t.Fatalf("%s at %d: got %+v, want it as full as at %d", c.Name, older, got, full)
			}
		}
	})
}

// A limit is kept for an hour after a change of the stored limits, so that a process
// that knows those before it finds that they are stale.
func TestForgettableByRevision(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 13, 14, 0, 0, 0, time.UTC)
	at, err := bucket.At(now)
	if err != nil {
		t.Fatal(err)
	}
	d := bucket.Definition{Burst: 10, Amount: 10, Period: time.Second, Capacity: 10}
	for _, c := range []struct {
		rev  int64
		want bool
	}{
		{0, true},
		{1, true},
		{now.Add(-time.Hour).UnixMicro(), true},
		{now.Add(-time.Hour).UnixMicro() + 1, false},
		{now.UnixMicro(), false},
		{now.Add(time.Hour).UnixMicro(), false},
	} {
		d.Rev = c.rev
		s := bucket.State{}.Redefine(d, at, 1)
		if got := s.Forgettable(at); got != c.want {
			t.Errorf("a full limit of revision %d: got forgettable %v, want %v", c.rev, got, c.want)
		}
		if s.Mark++; s.Forgettable(at) {
			t.Errorf("a limit that is not full: got it forgettable")
		}
	}
}
