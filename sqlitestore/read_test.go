package sqlitestore_test

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/zeroae/zael"
)

// Iterators read page by page. Each row comes exactly once, although other rows are
// added and deleted between the pages.
func TestPages(t *testing.T) {
	t.Parallel()
	n := 1203 // more than two pages
	if testing.Short() {
		n = 603 // more than one
	}
	s := quick(t, newPath(t))
	ctx := t.Context()
	name := func(i int) string { return fmt.Sprintf("x-%04d", i) }
	err := together(n, func(i int) error {
		limits := []zael.Charge{{Name: "rpm", Definition: thousand, Amount: int64(i%1000) + 1}}
		_, one := s.Take(ctx, t0, 0, []zael.Debit{{Key: zael.Key{Entity: name(i), Resource: "r"}, Charges: limits}})
		_, two := s.Take(ctx, t0, 0, []zael.Debit{{Key: zael.Key{Entity: "e", Resource: name(i)}, Charges: slices.Clone(limits)}})
		event := zael.AuditEvent{Time: t0.Add(time.Duration(i/3) * time.Second), Principal: name(i)}
		return errors.Join(one, two, s.CreateEntity(ctx, zael.Entity{ID: name(i), ParentID: "p", CreatedAt: t0}, event))
	})
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := range n {
		want = append(want, name(i))
	}
	disturb := func(i int) {
		if i%400 == 0 { // behind and ahead of the iterator
			mustTake(t, s, t0, []zael.Debit{{Key: zael.Key{Entity: "aaa", Resource: fmt.Sprint("a", i)}, Charges: []zael.Charge{{Name: "rpm", Definition: thousand, Amount: 1}}}})
		}
	}
	same(t, "EntityBuckets", s.EntityBuckets(ctx, "e"), func(b zael.Bucket) string { return b.Key.Resource }, want, disturb)
	same(t, "Children", s.Children(ctx, "p"), func(e zael.Entity) string { return e.ID }, want, disturb)
	var found []string
	for b, err := range s.ResourceBuckets(ctx, "r") {
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, b.Key.Entity)
	}
	if slices.Sort(found); !slices.Equal(found, want) {
		t.Errorf("ResourceBuckets: got %d, want each of %d once", len(found), n)
	}
	found = nil
	last := t0.Add(time.Hour)
	for event, err := range s.Audit(ctx, zael.AuditQuery{Max: n}) {
		if err != nil {
			t.Fatal(err)
		}
		if event.Time.After(last) {
			t.Errorf("Audit: got %v after %v, want the newest first", event.Time, last)
		}
		last = event.Time
		found = append(found, event.Principal)
	}
	if slices.Sort(found); !slices.Equal(found, want) {
		t.Errorf("Audit: got %d, want each of %d once", len(found), n)
	}
}

// same expects that an iterator yields want, in order.
func same[T any](t *testing.T, what string, all iter.Seq2[T, error], text func(T) string, want []string, disturb func(int)) {
	t.Helper()
	var got []string
	for v, err := range all {
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		disturb(len(got))
		got = append(got, text(v))
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %d, want all %d in order", what, len(got), len(want))
	}
}

// Deleting an entity also deletes the usage in its bucket and that of past hours.
func TestDeleteEntityRemovesAllUsage(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := quick(t, path)
	for hour := range 3 {
		each(t, s, t0.Add(time.Duration(hour)*time.Hour), "a-", 2)
	}
	if got := query(t, path, "SELECT count(*) FROM usage"); got != "4" {
		t.Fatalf("usage of hours that are over: got %s, want 4", got)
	}
	event := zael.AuditEvent{Time: t0}
	if err := s.DeleteEntity(t.Context(), "a-0", event); err != nil {
		t.Errorf("DeleteEntity: got %v, want nil", err)
	}
	if tokens, _ := usage(t, s, zael.UsageQuery{Entity: "a-0"}); tokens != 0 {
		t.Errorf("usage of the entity that was deleted: got %d, want none", tokens)
	}
	if tokens, _ := usage(t, s, zael.UsageQuery{}); tokens != 3 {
		t.Errorf("usage of the other one: got %d, want 3", tokens)
	}
	traffic(t, s, t0.Add(5*time.Hour), path, "SELECT count(*) FROM buckets", "1") // now usage is all there is of it
	if err := s.DeleteEntity(t.Context(), "a-1", event); err != nil {
		t.Errorf("DeleteEntity of one with nothing but usage: got %v, want nil", err)
	}
	if err := s.DeleteEntity(t.Context(), "a-1", event); !errors.Is(err, zael.ErrEntityNotFound) {
		t.Errorf("DeleteEntity once more: got %v, want zael.ErrEntityNotFound", err)
	}
}
