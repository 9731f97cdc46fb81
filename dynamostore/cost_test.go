package dynamostore_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/dynamostore/internal/protocol"
	"github.com/zeroae/zael/internal/trial"
)

// What each operation costs, by the engine's own account of table and index and
// by the requests on the wire.
func TestCost(t *testing.T) {
	t.Parallel()
	c, wire := newClient(t)
	table := newTable(t, c)
	s, err := dynamostore.NewTrial(c, table, &dynamostore.Config{CallTimeout: time.Minute}, trial.Options{CountUnits: true, VirtualTime: true})
	opened(t, s, err)
	d := define(10, 10, time.Hour)
	four := func(n int64) []zael.Charge {
		return []zael.Charge{ask("rpm", d, n), ask("tpm", d, n), ask("rpd", d, n), ask("tpd", d, n)}
	}
	cost := func(what string, requests int64, write, read float64, do func()) {
		t.Helper()
		before, sent := s.Stats(), wire.requests.Load()
		do()
		after := s.Stats()
		if got := wire.requests.Load() - sent; got != requests {
			t.Errorf("%s: got %d requests, want %d", what, got, requests)
		}
		if got := after.WriteUnits - before.WriteUnits; got != write {
			t.Errorf("%s: got %v write units, want %v", what, got, write)
		}
		if got := after.ReadUnits - before.ReadUnits; got != read {
			t.Errorf("%s: got %v read units, want %v", what, got, read)
		}
	}
	one := debit("a", ask("rpm", d, 2))
	cost("first use", 1, 2, 0, func() { take(t, s, 0, nil, one) })
	for i := range 3 {
		cost(fmt.Sprintf("hit %d", i), 1, 1, 0, func() { take(t, s, time.Duration(i)*time.Second, nil, one) })
	}
	cost("settle, a charge", 1, 1, 0, func() { adjust(t, s, debit("a", ask("rpm", d, 1))) })
	cost("settle, a give", 1, 1, 0, func() { adjust(t, s, debit("a", back(one.Charges[0], 1))) })
	cost("rollback", 1, 1, 0, func() { adjust(t, s, debit("a", back(one.Charges[0], 1))) })
	cost("refusal", 1, 1, 0, func() { take(t, s, 0, zael.ErrExceeded, debit("a", ask("rpm", d, 9))) })
	cost("refused a moment ago, and less is asked", 1, 1, 0, func() { take(t, s, 0, nil, debit("a", ask("rpm", d, 1))) })
	cost("more than the burst", 1, 1, 0, func() { take(t, s, 0, zael.ErrExceeded, debit("b0", ask("rpm", d, 11))) })
	cost("asked 0", 1, 1, 0, func() { take(t, s, 0, nil, debit("a", ask("rpm", d, 0))) })
	cost("when full again", 1, 1, 0, func() { take(t, s, 48*time.Hour, nil, one) })

	two := debit("b", ask("rpm", d, 1), ask("tpm", d, 1))
	cost("first use of two limits", 1, 2, 0, func() { take(t, s, 0, nil, two) })
	cost("two limits", 1, 1, 0, func() { take(t, s, 0, nil, two) })
	cost("first use of four limits", 1, 2, 0, func() { take(t, s, 0, nil, debit("c", four(1)...)) })
	cost("four limits", 1, 1, 0, func() { take(t, s, 0, nil, debit("c", four(1)...)) })
	cost("four limits, one of them named", 1, 1, 0, func() { take(t, s, 0, nil, debit("c", ask("tpd", d, 1))) })

	cost("first use of a cascade", 2, 4, 0, func() { take(t, s, 0, nil, debit("child", ask("rpm", d, 1)), debit("parent", ask("rpm", d, 1))) })
	cost("cascade", 2, 2, 0, func() { take(t, s, 0, nil, debit("child", ask("rpm", d, 1)), debit("parent", ask("rpm", d, 1))) })
	adjust(t, s, debit("parent", ask("rpm", d, 8)))
	cost("cascade, known to be refused", 2, 1, 1, func() {
		take(t, s, 0, zael.ErrExceeded, debit("child", ask("rpm", d, 1)), debit("parent", ask("rpm", d, 1)))
	})

	other, err := dynamostore.NewTrial(c, table, &dynamostore.Config{CallTimeout: time.Minute}, trial.Options{VirtualTime: true})
	opened(t, other, err)
	if err := other.DeleteEntity(t.Context(), "c", zael.AuditEvent{Time: t0, Action: zael.EntityDeleted, Entity: "c"}); err != nil {
		t.Fatal(err)
	}
	cost("first use since another process deleted it", 1, 2, 0, func() { take(t, s, 48*time.Hour, nil, debit("c", four(1)...)) })

	changed := define(20, 10, time.Hour)
	cost("changed limit", 1, 1, 0, func() { take(t, s, 0, nil, debit("b", ask("rpm", changed, 1))) })
	// Another process has no memory of the bucket: it guesses, and is told.
	s2, err := dynamostore.NewTrial(c, table, &dynamostore.Config{CallTimeout: time.Minute}, trial.Options{VirtualTime: true})
	opened(t, s2, err)
	sent := wire.requests.Load()
	take(t, s2, 0, nil, debit("b", ask("tpm", d, 1)))
	take(t, s2, 0, nil, debit("b", ask("tpm", d, 1)))
	if got := wire.requests.Load() - sent; got != 3 {
		t.Errorf("two hits of a process that has not seen the bucket: got %d requests, want 3", got)
	}
}

// The first bucket of a resource, in a process, costs a unit more, which nobody waits for:
// the resource is put on a list. Administration pays for what it lists in its transaction.
func TestCostOfLists(t *testing.T) {
	t.Parallel()
	c, wire := newClient(t)
	table := newTable(t, c)
	s, err := dynamostore.NewTrial(c, table, &dynamostore.Config{CallTimeout: time.Minute}, trial.Options{CountUnits: true, VirtualTime: true})
	opened(t, s, err)
	on := func(resource, entity string) zael.Debit {
		return zael.Debit{Key: zael.Key{Entity: entity, Resource: resource}, Charges: []zael.Charge{ask("rpm", define(10, 10, time.Hour), 1)}}
	}
	before := wire.requests.Load()
	for i, entity := range []string{"a", "b", "a", "c"} {
		take(t, s, 0, nil, on("new", entity), on("newer", entity))
		for deadline := time.Now().Add(2 * time.Minute); i == 0 && wire.requests.Load()-before < 4; { // two of them in the background
			if time.Now().After(deadline) {
				t.Fatal("got no second call for a new resource")
			}
			<-time.After(time.Millisecond)
		}
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := wire.requests.Load() - before; got != 2+4*2 {
		t.Errorf("8 takes from 2 new resources: got %d requests, want 10", got)
	}
	if got := s.Stats().WriteUnits; got != 2+3*4+2 {
		t.Errorf("8 takes, 6 of them first, from 2 new resources: got %v write units, want 16", got)
	}
}

// I6: the item stays under 1 KB with four limits and long names, so that a hit
// costs one unit; the index is written when the item is made and then no more.
func TestItemStaysSmall(t *testing.T) {
	t.Parallel()
	c, _ := newClient(t)
	table := newTable(t, c)
	s, err := dynamostore.NewTrial(c, table, &dynamostore.Config{CallTimeout: time.Minute}, trial.Options{CountUnits: true})
	opened(t, s, err)
	wall := time.Now()
	key := zael.Key{Entity: strings.Repeat("e", 64), Resource: strings.Repeat("r", 30)}
	s.KnowResource(key.Resource) // listing it is a unit more, of TestCostOfLists
	d := zael.Debit{Key: key}
	for i := range 4 {
		def := bucket.Definition{Burst: 123_456_789, Amount: 98_765_432, Period: 61 * time.Second, Capacity: 1_234_567, Rev: wall.UnixMicro()}
		d.Charges = append(d.Charges, ask(strings.Repeat("l", 19)+fmt.Sprint(i), def, 1_234_567))
	}
	for i, want := range []float64{2, 1, 1} {
		before := s.Stats().WriteUnits
		if _, err := s.Take(t.Context(), wall, 0, []zael.Debit{d}); err != nil {
			t.Fatal(err)
		}
		if got := s.Stats().WriteUnits - before; got != want {
			t.Errorf("acquire %d: got %v write units, want %v", i, got, want)
		}
	}
	out, err := c.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: aws.String(table), Key: map[string]types.AttributeValue{
		"PK": &types.AttributeValueMemberS{Value: "E#" + key.Entity}, "SK": &types.AttributeValueMemberS{Value: "B#" + key.Resource},
	}})
	if err != nil {
		t.Fatal(err)
	}
	size := 0
	for name, v := range out.Item {
		size += len(name)
		switch v := v.(type) {
		case *types.AttributeValueMemberS:
			size += len(v.Value)
		case *types.AttributeValueMemberN:
			size += len(v.Value)/2 + 2
		}
	}
	if size > 1000 || size < 500 {
		t.Errorf("item of four limits: got %d bytes, want 500 to 1000", size)
	}
	t.Logf("%d bytes", size)
	if ttl, ok := out.Item["ttl"].(*types.AttributeValueMemberN); !ok || ttl.Value == "" {
		t.Errorf("ttl: got %v, want a number", out.Item["ttl"])
	}
}

// As many limits as one write can name.
func TestMostLimits(t *testing.T) {
	t.Parallel()
	c, _ := newClient(t)
	table := newTable(t, c)
	s, err := dynamostore.New(c, table, &dynamostore.Config{CallTimeout: time.Minute})
	opened(t, s, err)
	d := define(1000, 1000, time.Hour)
	many := debit("many")
	for i := range protocol.MaxLimits {
		many.Charges = append(many.Charges, ask(fmt.Sprintf("limit-%d", i), d, 1))
	}
	now := time.Now()
	for range 3 { // new, as known, and with gives
		if _, err := s.Take(t.Context(), now, 0, []zael.Debit{many}); err != nil {
			t.Fatalf("Take of %d limits: got %v, want nil", len(many.Charges), err)
		}
	}
	gives := debit("many")
	for _, ch := range many.Charges {
		gives.Charges = append(gives.Charges, back(ch, 1))
	}
	if _, err := s.Adjust(t.Context(), now, []zael.Debit{gives}); err != nil {
		t.Fatalf("Adjust of %d limits: got %v, want nil", len(many.Charges), err)
	}
	many.Charges = append(many.Charges, ask("one-more", d, 1))
	if _, err := s.Take(t.Context(), now, 0, []zael.Debit{many}); err == nil {
		t.Error("Take of one more limit: got nil, want a ValidationError")
	}
}

// As many limits as one write can name if they are no plain rates: new ones, known ones, of
// another calendar, and their gives; and slots beside as many holders as it can remove.
func TestMostLimitsOfKinds(t *testing.T) {
	t.Parallel()
	c, _ := newClient(t)
	table := newTable(t, c)
	s, err := dynamostore.New(c, table, &dynamostore.Config{CallTimeout: time.Minute})
	opened(t, s, err)
	quota := func(each bucket.Cycle) bucket.Definition {
		calendar, err := bucket.NewCalendar(bucket.CalendarSpec{Each: each})
		if err != nil {
			t.Fatal(err)
		}
		return bucket.Definition{Kind: bucket.Quota, Burst: 1000, Capacity: 1000, Calendar: calendar, Flags: bucket.CarryDebt}
	}
	now := time.Now()
	var many zael.Debit
	for _, each := range []bucket.Cycle{bucket.Yearly, bucket.Yearly, bucket.Monthly, bucket.Daily} { // new, known, changed
		many = debit("many")
		for i := range protocol.MaxKindLimits {
			many.Charges = append(many.Charges, ask(fmt.Sprintf("limit-%d", i), quota(each), 1))
		}
		if _, err := s.Take(t.Context(), now, 0, []zael.Debit{many}); err != nil {
			t.Fatalf("Take of %d quotas each %v: got %v, want nil", len(many.Charges), each, err)
		}
	}
	gives := debit("many")
	for _, ch := range many.Charges {
		gives.Charges = append(gives.Charges, back(ch, 1))
	}
	if _, err := s.Adjust(t.Context(), now, []zael.Debit{gives}); err != nil {
		t.Fatalf("Adjust of %d quotas: got %v, want nil", len(many.Charges), err)
	}
	many.Charges = append(many.Charges, ask("one-more", quota(bucket.Yearly), 1))
	if _, err := s.Take(t.Context(), now, 0, []zael.Debit{many}); err == nil {
		t.Error("Take of one more limit: got nil, want a ValidationError")
	}

	slots := bucket.Definition{Kind: bucket.Slots, Burst: protocol.MaxReclaimed, Capacity: protocol.MaxReclaimed, Period: bucket.MinHold}
	for i := range protocol.MaxReclaimed {
		d := debit("held", ask("parallel", slots, 1))
		d.Holder = fmt.Sprintf("holder-%d", i)
		if _, err := s.Take(t.Context(), now, 0, []zael.Debit{d}); err != nil {
			t.Fatalf("slot %d: got %v, want it", i+1, err)
		}
	}
	d := debit("held", ask("parallel", slots, protocol.MaxReclaimed))
	d.Holder = "last"
	if _, err := s.Take(t.Context(), now.Add(time.Second), 0, []zael.Debit{d}); !errors.Is(err, zael.ErrExceeded) {
		t.Errorf("all slots, while they are held: got %v, want a refusal", err)
	}
	if _, err := s.Take(t.Context(), now.Add(bucket.MinHold+time.Second), 0, []zael.Debit{d}); err != nil {
		t.Errorf("all slots, of %d holders that are dead: got %v, want them", protocol.MaxReclaimed, err)
	}
}
