package dynamostore_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
	"github.com/zeroae/zael/internal/trial"
)

// Limit names may be anything: words of the engine, what separates names, and
// names of the attributes that are there already.
func TestHostileLimitNames(t *testing.T) {
	t.Parallel()
	c, _ := newClient(t)
	table := newTable(t, c)
	local, err := dynamostore.NewTrial(c, table, &dynamostore.Config{CallTimeout: time.Minute}, trial.Options{VirtualTime: true})
	opened(t, local, err)
	fake, err := dynamostore.NewTrial(dynamofake.New(), "fake", patient(), trial.Options{VirtualTime: true})
	opened(t, fake, err)
	names := []string{
		"size", "SET", "ADD", "AND", "BETWEEN", "attribute_not_exists", "#m0", ":v0", "m_", "d_", "c_", "m_m_", "a-b", "a.b", "a b", "a,b", "(a)", "a[0]",
		"", "日本", "\x00", "é", "e\u0301", "ttl", "PK", "o", "b", "e", strings.Repeat("n", 900),
	}
	d := define(1000, 1000, time.Hour)
	for _, s := range []*dynamostore.Store{local, fake} {
		all := debit("hostile")
		for i, name := range names {
			all.Charges = append(all.Charges, ask(name, d, int64(i)+1))
		}
		for range 2 {
			take(t, s, 0, nil, all)
		}
		_, got, err := s.Buckets(t.Context(), t0, []zael.Key{all.Key})
		if err != nil {
			t.Fatal(err)
		}
		if len(got[0].Limits) != len(names) {
			t.Fatalf("limits: got %d, want %d", len(got[0].Limits), len(names))
		}
		for i, name := range names {
			left(t, s, 0, "hostile", name, 1000-2*(int64(i)+1))
		}
	}
}

// Tenants of one table do not see each other, whatever their names.
func TestNamespacesApart(t *testing.T) {
	t.Parallel()
	table := dynamofake.New()
	d := define(10, 10, time.Hour)
	for i, namespace := range []string{"", "a", "A", "a.b", "E", "SYSTEM", "_default_"} {
		s, err := dynamostore.NewTrial(table, "fake", &dynamostore.Config{Namespace: namespace, CallTimeout: time.Minute}, trial.Options{VirtualTime: true})
		opened(t, s, err)
		take(t, s, 0, nil, debit("e", ask("rpm", d, int64(i)+1)))
		left(t, s, 0, "e", "rpm", 10-(int64(i)+1))
	}
	for _, namespace := range []string{"a/b", "a#", "ä", " ", strings.Repeat("x", 65)} {
		if s, err := dynamostore.New(table, "fake", &dynamostore.Config{Namespace: namespace}); err == nil {
			t.Errorf("namespace %q: got %v, want a ValidationError", namespace, s)
		}
	}
}

// An item that a newer version has written is an error that says so, and no
// empty bucket.
func TestUnreadableItem(t *testing.T) {
	t.Parallel()
	a, _, table := pair(t)
	d := define(10, 10, time.Hour)
	take(t, a, 0, nil, debit("e", ask("rpm", d, 1)))
	it := table.Get("E#e", "B#gpt-4")
	it["d_rpm"] = &types.AttributeValueMemberS{Value: "2:10/hour^10"}
	table.Put(it)
	for what, err := range map[string]error{
		"Take": func() error {
			_, err := a.Take(t.Context(), t0, 0, []zael.Debit{debit("e", ask("rpm", d, 1))})
			return err
		}(),
		"Buckets": func() error {
			_, _, err := a.Buckets(t.Context(), t0, []zael.Key{{Entity: "e", Resource: "gpt-4"}})
			return err
		}(),
	} {
		if err == nil || !strings.Contains(err.Error(), "2:10/hour^10") || errors.Is(err, zael.ErrUnavailable) {
			t.Errorf("%s of an item of another version: got %v, want an error that shows the text", what, err)
		}
	}
}
