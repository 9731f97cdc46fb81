package dynamostore_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/dynamostore/internal/protocol"
	"github.com/zeroae/zael/internal/trial"
)

// Names of limits that are used once do not add up in an item, at one call and one
// unit an acquire.
func TestNamesUsedOnceAreForgotten(t *testing.T) {
	t.Parallel()
	c, wire := newClient(t)
	s, err := dynamostore.NewTrial(c, newTable(t, c), &dynamostore.Config{CallTimeout: time.Minute}, trial.Options{CountUnits: true, VirtualTime: true})
	opened(t, s, err)
	busy, once := define(1000, 1, time.Hour), define(10, 10, time.Minute)
	take(t, s, 0, nil, debit("e", ask("busy", busy, 900)))
	before, sent := s.Stats(), wire.requests.Load()
	const n = 100
	for i := range n {
		take(t, s, time.Duration(i)*time.Hour, nil, debit("e", ask(fmt.Sprint("once-", i), once, 10)))
	}
	if got := wire.requests.Load() - sent; got != n {
		t.Errorf("%d acquires of a new limit each: got %d requests, want one each", n, got)
	}
	if got := s.Stats().WriteUnits - before.WriteUnits; got != n {
		t.Errorf("%d acquires of a new limit each: got %v write units, want one each", n, got)
	}
	names := limitNames(t, s, "e")
	if len(names) > 12 || names[0] != "busy" {
		t.Errorf("limits in the end: got %q, want busy and 11 at most", names)
	}
}

func limitNames(t *testing.T, s *dynamostore.Store, entity string) (names []string) {
	t.Helper()
	_, b, err := s.Buckets(t.Context(), t0, []zael.Key{{Entity: entity, Resource: "gpt-4"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range b[0].Limits {
		names = append(names, l.Name)
	}
	return names
}

// Eight limits go when they have been full for an hour, and fewer when one has been
// full for a day, and not sooner; with their counters, and with no attribute of others.
func TestForgetsAfterAnHour(t *testing.T) {
	t.Parallel()
	s, _, table := pair(t)
	d := define(10, 10, time.Minute) // full again after a minute
	many := debit("many", ask("tpm", d, 10))
	for i := range 8 {
		many.Charges = append(many.Charges, ask(fmt.Sprint("once-", i), d, 10))
	}
	take(t, s, 0, nil, debit("few", ask("rpm", d, 10), ask("tpm", d, 10)))
	take(t, s, 0, nil, many)
	for _, c := range []struct {
		entity string
		limits int
		after  time.Duration
	}{{"many", 9, time.Hour + time.Minute}, {"few", 2, 24*time.Hour + time.Minute}} {
		for i, after := range []time.Duration{c.after / 2, c.after - time.Millisecond} {
			take(t, s, after, nil, debit(c.entity, ask("tpm", d, 1)))
			if got := limitNames(t, s, c.entity); len(got) != c.limits {
				t.Fatalf("%s, take %d at %v: got limits %q, want %d", c.entity, i, after, got, c.limits)
			}
		}
		take(t, s, c.after, nil, debit(c.entity, ask("tpm", d, 1)))
		it := table.Get("E#"+c.entity, "B#gpt-4")
		for attribute, v := range it {
			if prefix, name, ok := strings.Cut(attribute, "_"); ok && len(prefix) == 1 && name != "tpm" {
				t.Errorf("%s at %v: got attribute %s: %v, want it removed", c.entity, c.after, attribute, v)
			}
		}
		for attribute, want := range map[string]string{"c_tpm": "13", "e": "4", "r": "1"} {
			if v, ok := it[attribute].(*types.AttributeValueMemberN); !ok || v.Value != want {
				t.Errorf("%s: attribute %s: got %v, want %s", c.entity, attribute, it[attribute], want)
			}
		}
	}
}

// A process that still knows a limit which another has removed takes from it as if
// it had not, at the price of a call.
func TestForgottenByAnother(t *testing.T) {
	t.Parallel()
	a, b, _ := pair(t)
	d := define(10, 10, time.Minute)
	take(t, a, 0, nil, debit("e", ask("rpm", d, 10), ask("tpm", d, 1)))
	take(t, b, 0, nil, debit("e", ask("tpm", d, 1)))
	take(t, a, 25*time.Hour, nil, debit("e", ask("tpm", d, 1))) // rpm goes
	first := debit("e", ask("rpm", d, 7))
	take(t, b, 25*time.Hour, nil, first)
	left(t, a, 25*time.Hour, "e", "rpm", 3)
	take(t, a, 25*time.Hour, nil, debit("e", ask("rpm", d, 3)))
	adjust(t, b, debit("e", back(first.Charges[0], 7)))
	left(t, a, 25*time.Hour, "e", "rpm", 7)

	// What others have removed already is no reason for a write to fail.
	take(t, a, 50*time.Hour, nil, debit("e", ask("tpm", d, 1))) // rpm goes again
	before := b.Stats()
	take(t, b, 50*time.Hour, nil, debit("e", ask("tpm", d, 1)))
	if got := limitNames(t, b, "e"); len(got) != 1 || b.Stats().Contended != before.Contended {
		t.Errorf("limits in the end: got %q, want tpm", got)
	}
}

// As many limits as a write can name that removes some, and as many as it can remove.
func TestForgetsInTheLargestWrites(t *testing.T) {
	t.Parallel()
	c, _ := newClient(t)
	s, err := dynamostore.NewTrial(c, newTable(t, c), &dynamostore.Config{CallTimeout: time.Minute}, trial.Options{VirtualTime: true})
	opened(t, s, err)
	d := define(1000, 1000, time.Minute)
	charges := func(what string, n int) (all []zael.Charge) {
		for i := range n {
			all = append(all, ask(fmt.Sprint(what, i), d, 1))
		}
		return all
	}
	for _, n := range []int{protocol.MaxLimits, protocol.MaxNamedToForget, protocol.MaxNamedToForget + 1} {
		entity := fmt.Sprint("e", n)
		take(t, s, 0, nil, debit(entity, charges("old-", protocol.MaxForgotten+1)...))
		take(t, s, 0, nil, debit(entity, charges("limit-", n)...))
		take(t, s, 2*time.Hour, nil, debit(entity, charges("limit-", n)...))
		want := n + protocol.MaxForgotten + 1
		if n <= protocol.MaxNamedToForget {
			want = n + 1
		}
		if got := limitNames(t, s, entity); len(got) != want {
			t.Errorf("limits after a take of %d of them: got %d, want %d", n, len(got), want)
		}
	}
}

// A counter that is too large for us is the engine's all the same, and stays.
func TestLargeCounterIsNotForgotten(t *testing.T) {
	t.Parallel()
	s, _, table := pair(t)
	d := define(10, 10, time.Minute)
	take(t, s, 0, nil, debit("e", ask("rpm", d, 1), ask("tpm", d, 1)))
	it := table.Get("E#e", "B#gpt-4")
	it["c_rpm"] = &types.AttributeValueMemberN{Value: "9223372036854775808"}
	table.Put(it)
	for range 2 {
		take(t, s, 50*time.Hour, nil, debit("e", ask("tpm", d, 1)))
	}
	if got := limitNames(t, s, "e"); len(got) != 2 {
		t.Errorf("limits: got %q, want both", got)
	}
	take(t, s, 50*time.Hour, nil, debit("e", ask("rpm", d, 1)))
}

// A limit that becomes slots leaves its counter to them: a take of slots does not remove it.
func TestRateThatBecameSlotsIsNotForgotten(t *testing.T) {
	t.Parallel()
	c, _ := newClient(t)
	s, err := dynamostore.NewTrial(c, newTable(t, c), &dynamostore.Config{CallTimeout: time.Minute}, trial.Options{VirtualTime: true})
	opened(t, s, err)
	slots := bucket.Definition{Burst: 2, Capacity: 2, Kind: bucket.Slots, Period: time.Minute}
	take(t, s, 0, nil, debit("e", ask("n", define(10, 10, time.Minute), 3), ask("tpm", define(10, 10, time.Minute), 1)))
	for range 2 {
		d := debit("e", ask("n", slots, 1))
		d.Holder = "A"
		take(t, s, 50*time.Hour, nil, d)
	}
	both := debit("e", ask("n", define(10, 10, time.Minute), 1), ask("n", slots, 0))
	both.Holder = "B"
	both.Charges[1].Amount = 2
	take(t, s, 51*time.Hour, nil, both) // A is removed
	if got, want := limitNames(t, s, "e"), []string{"n", "n"}; !slices.Equal(got, want) {
		t.Errorf("limits: got %q, want %q: tpm is forgotten", got, want)
	}
}
