package usage_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/dynamofake"
	"github.com/zeroae/zael/internal/usage"
)

// named are changes of one bucket, each of which takes one token of a limit of its
// own: usage tells of each how often it was counted.
func named(h *history, n int, between time.Duration) []usage.Record {
	var records []usage.Record
	now := []any{"b", "x"}
	for i := range n {
		now = append(now, fmt.Sprintf("c_n%d", i), 1)
		records = append(records, h.to(append(now, "e", i+1)...))
		h.at = h.at.Add(between)
	}
	return records
}

// A change in a hole that was given up is reported when it comes, not taken for
// counted; so is one of which it is not known any more. None counts twice, and
// what comes again where nothing was given up is passed over.
func TestGivenUpHoles(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		n         int
		between   time.Duration
		reported  int // of the late ones, at least
		surelyNot int // sequence from which none is reported
	}{
		{"too many", 90, 0, 24, 49},
		{"too old", 100, time.Hour, 20, 52},
	} {
		for _, one := range []bool{true, false} { // by one, or all at once
			t.Run(fmt.Sprintf("%s, one by one %v", c.name, one), func(t *testing.T) {
				t.Parallel()
				table := dynamofake.New()
				counter := newCounter(t, table, zael.Monthly)
				if c.between == 0 {
					counter.SetMostHoles(20)
				}
				h := newHistory("e1")
				h.at = h.at.AddDate(0, 0, -25)
				all := named(h, c.n, c.between)
				var late []usage.Record
				for i, r := range all { // every second one fails
					if i%2 == 1 {
						late = append(late, r)
					} else {
						count(t, counter, r)
					}
				}
				late = late[:len(late)-1] // after the last that is counted
				parts := [][]usage.Record{late}
				if one {
					parts = nil
					for _, i := range rand.New(rand.NewPCG(1, 2)).Perm(len(late)) {
						parts = append(parts, late[i:i+1])
					}
				}
				reported := map[string]bool{}
				bring := func(batch []usage.Record) {
					for _, f := range counter.Count(t.Context(), batch).Failures {
						if !errors.Is(f.Err, usage.ErrUncountable) {
							t.Fatalf("%s: got %v, want %v", f.Sequence, f.Err, usage.ErrUncountable)
						}
						reported[f.Sequence] = true
					}
				}
				for _, part := range parts {
					bring(part)
				}
				lost := len(reported)
				bring(all[:len(all)-1]) // a retry, of what was counted too
				got := read(t, table, "", zael.UsageQuery{Entity: "e1", Window: zael.Monthly})
				for i, r := range all[:len(all)-1] {
					n := got[fmt.Sprintf("e1 gpt-4 monthly 01-01T00 n%d", i)]
					if n > 1 || n == 0 && !reported[r.Sequence] {
						t.Errorf("change %d: counted %d times, reported %v", i, n, reported[r.Sequence])
					}
					if reported[r.Sequence] && i >= c.surelyNot {
						t.Errorf("change %d: reported, although nothing was given up there", i)
					}
				}
				if lost < c.reported {
					t.Errorf("got %d late changes reported, want %d or more", lost, c.reported)
				}
			})
		}
	}
}

// One change that cannot be counted keeps back no other of its bucket.
func TestGivenUpKeepsBackNoOther(t *testing.T) {
	t.Parallel()
	table := dynamofake.New()
	counter := newCounter(t, table, zael.Monthly)
	h := newHistory("e1")
	h.at = h.at.AddDate(0, 0, -25)
	all := named(h, 100, time.Hour)
	count(t, counter, all[0])
	count(t, counter, all[10])
	count(t, counter, all[90]) // gives up what is between the first two
	for range 2 {
		r := counter.Count(t.Context(), append(append([]usage.Record{all[3]}, all[20:40]...), all[95:]...))
		if len(r.Failures) != 1 || r.Failures[0].Sequence != all[3].Sequence || !errors.Is(r.Failures[0].Err, usage.ErrUncountable) {
			t.Errorf("got %+v, want a failure of %s alone", r.Failures, all[3].Sequence)
		}
	}
	got := read(t, table, "", zael.UsageQuery{Entity: "e1", Window: zael.Monthly})
	for i := range all {
		want := int64(0)
		if i == 0 || i == 10 || i == 90 || i >= 20 && i < 40 || i >= 95 {
			want = 1
		}
		if n := got["e1 gpt-4 monthly 01-01T00 n"+strconv.Itoa(i)]; n != want {
			t.Errorf("change %d: counted %d times, want %d", i, n, want)
		}
	}
}
