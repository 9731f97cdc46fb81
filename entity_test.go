package zael_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/memstore"
)

func (r *rig) create(e zael.Entity) zael.Entity {
	r.Helper()
	got, err := r.l.CreateEntity(r.ctx, e)
	if err != nil {
		r.Fatalf("CreateEntity %s: got %v, want no error", e.ID, err)
	}
	return got
}

func sameEntity(a, b zael.Entity) bool {
	return a.ID == b.ID && a.Name == b.Name && a.ParentID == b.ParentID && a.Cascade == b.Cascade &&
		maps.Equal(a.Metadata, b.Metadata) && a.CreatedAt.Equal(b.CreatedAt)
}

func TestCreateEntity(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.clock.set(time.Minute)
	for _, c := range []struct{ e, want zael.Entity }{
		{zael.Entity{ID: "a"}, zael.Entity{ID: "a", Name: "a", CreatedAt: t0().Add(time.Minute)}},
		{
			zael.Entity{ID: "b", Name: "Bé", ParentID: "nobody", Cascade: true, Metadata: map[string]string{"k": "v"}, CreatedAt: time.Unix(1, 0)},
			zael.Entity{ID: "b", Name: "Bé", ParentID: "nobody", Cascade: true, Metadata: map[string]string{"k": "v"}, CreatedAt: t0().Add(time.Minute)},
		},
		{
			zael.Entity{ID: "c", Name: strings.Repeat("n", 256), Metadata: map[string]string{"k": strings.Repeat("v", 16<<10-1)}},
			zael.Entity{ID: "c", Name: strings.Repeat("n", 256), Metadata: map[string]string{"k": strings.Repeat("v", 16<<10-1)}, CreatedAt: t0().Add(time.Minute)},
		},
	} {
		if got := r.create(c.e); !sameEntity(got, c.want) || got.CreatedAt.Location() != time.UTC {
			t.Errorf("created: got %+v, want %+v", got, c.want)
		}
		if got, err := r.l.Entity(r.ctx, c.e.ID); err != nil || !sameEntity(got, c.want) {
			t.Errorf("read: got %+v, %v, want %+v", got, err, c.want)
		}
	}
	if _, err := r.l.CreateEntity(r.ctx, zael.Entity{ID: "a", Name: "other"}); !errors.Is(err, zael.ErrEntityExists) {
		t.Errorf("again: got %v, want ErrEntityExists", err)
	}
	if got, err := r.l.Entity(r.ctx, "a"); err != nil || got.Name != "a" {
		t.Errorf("after that: got %+v, %v, want it as it was", got, err)
	}
	_, err := r.l.Entity(r.ctx, "A")
	if !errors.Is(err, zael.ErrEntityNotFound) || !strings.HasSuffix(err.Error(), ": A") {
		t.Errorf("other case: got %v, want ErrEntityNotFound that names it", err)
	}
}

func TestEntityMetadataIsACopy(t *testing.T) {
	t.Parallel()
	r := setup(t)
	meta := map[string]string{"k": "v"}
	got := r.create(zael.Entity{ID: "a", Metadata: meta})
	meta["k"], got.Metadata["k"] = "w", "x"
	if again, err := r.l.Entity(r.ctx, "a"); err != nil || again.Metadata["k"] != "v" {
		t.Errorf("got %v, %v, want k=v as it was created", again.Metadata, err)
	}
}

// Trap: first page only.
func TestTrapAllChildren(t *testing.T) {
	t.Parallel()
	r := setup(t)
	var want []string
	for i := range 250 {
		id := fmt.Sprintf("key-%03d", (i*7)%250)
		r.create(zael.Entity{ID: id, ParentID: "org"})
		want = append(want, id)
	}
	r.create(zael.Entity{ID: "other", ParentID: "Org"})
	slices.Sort(want)
	children, err := r.l.Children(r.ctx, "org") // which does not exist itself
	var got []string
	for _, e := range children {
		got = append(got, e.ID)
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %d children, %v, want all 250 in order", len(got), err)
	}
	if none, err := r.l.Children(r.ctx, "key-000"); err != nil || none == nil || len(none) != 0 {
		t.Errorf("of none: got %v, %v, want an empty slice", none, err)
	}
}

// Trap: delete ignored what was not on the first page.
func TestTrapDeleteEntityIsComplete(t *testing.T) {
	t.Parallel()
	r := setupOn(t, memstore.New(&memstore.Config{Usage: true}), nil)
	r.create(zael.Entity{ID: "key-1", ParentID: "org"})
	r.create(zael.Entity{ID: "child", ParentID: "key-1"})
	resource := func(i int) string { return fmt.Sprintf("r%03d", i) }
	for i := range 150 {
		r.set(zael.Scope{Entity: "key-1", Resource: resource(i)}, zael.PerDay("rpd", 1))
		r.allow(zael.Request{Entity: "key-1", Resource: resource(i), UseStoredLimits: true, Consume: zael.Amounts{"rpd": 1}})
	}
	r.set(zael.Scope{Entity: "key-1"}, zael.PerDay("rpd", 1))
	r.allow(zael.Request{Entity: "key-2", Resource: "r000", Limits: []zael.Limit{zael.PerDay("rpd", 5)}, Consume: zael.Amounts{"rpd": 1}})

	r.ok(r.l.DeleteEntity(r.ctx, "key-1"))
	if _, err := r.l.Entity(r.ctx, "key-1"); !errors.Is(err, zael.ErrEntityNotFound) {
		t.Errorf("the entity: got %v, want ErrEntityNotFound", err)
	}
	for i := range 150 {
		limits, err := r.l.Limits(r.ctx, zael.Scope{Entity: "key-1", Resource: resource(i)})
		if err != nil || len(limits) != 0 {
			t.Fatalf("limits of %s: got %v, %v, want none", resource(i), limits, err)
		}
		r.left(zael.Request{Entity: "key-1", Resource: resource(i), Limits: []zael.Limit{zael.PerDay("rpd", 1)}}, zael.Amounts{"rpd": 1})
	}
	if u, err := r.l.Usage(r.ctx, zael.UsageQuery{Entity: "key-1"}); err != nil || len(u.Records) != 0 {
		t.Errorf("usage: got %v, %v, want none", u, err)
	}
	if children, err := r.l.Children(r.ctx, "org"); err != nil || len(children) != 0 {
		t.Errorf("children of its parent: got %v, %v, want none", children, err)
	}
	if _, err := r.l.Entity(r.ctx, "child"); err != nil {
		t.Errorf("its child: got %v, want it to stay", err)
	}
	r.left(zael.Request{Entity: "key-2", Resource: "r000", Limits: []zael.Limit{zael.PerDay("rpd", 5)}}, zael.Amounts{"rpd": 4})
	err := r.l.DeleteEntity(r.ctx, "key-1")
	if !errors.Is(err, zael.ErrEntityNotFound) || !strings.HasSuffix(err.Error(), ": key-1") {
		t.Errorf("again: got %v, want ErrEntityNotFound that names it", err)
	}
	r.create(zael.Entity{ID: "key-1"}) // the name is free again
}

// An entity that has only buckets, or only limits, can be deleted too.
func TestDeleteWithoutARecord(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.allow(ask(zael.Amounts{"rpd": 1}, zael.PerDay("rpd", 1)))
	r.ok(r.l.DeleteEntity(r.ctx, "key-1"))
	r.set(zael.Scope{Entity: "key-1"}, zael.PerDay("rpd", 1))
	r.ok(r.l.DeleteEntity(r.ctx, "key-1"))
	if err := r.l.DeleteEntity(r.ctx, "key-1"); !errors.Is(err, zael.ErrEntityNotFound) {
		t.Errorf("with nothing: got %v, want ErrEntityNotFound", err)
	}
}

func TestAudit(t *testing.T) {
	t.Parallel()
	r := setupOn(t, memstore.New(nil), &zael.Config{Principal: "alice"})
	at := func(minute int) time.Time { return t0().Add(time.Duration(minute) * time.Minute) }
	step := func(minute int) { r.clock.set(time.Duration(minute) * time.Minute) }
	r.create(zael.Entity{ID: "key-1", Name: "One", ParentID: "org", Cascade: true})
	step(1)
	r.set(zael.Scope{Entity: "key-1", Resource: "gpt-4"}, zael.PerMinute("rpm", 10), zael.PerMinute("tpm", 100).WithBurst(7))
	step(2)
	r.set(zael.Scope{}, zael.PerMinute("rpm", 10))
	step(3)
	r.unset(zael.Scope{})
	step(4)
	r.ok(r.l.DeleteEntity(r.ctx, "key-1"))
	// What fails or changes nothing leaves no event.
	r.unset(zael.Scope{})
	if err := r.l.DeleteEntity(r.ctx, "key-1"); err == nil {
		t.Error("second delete: got nil, want an error")
	}

	want := []zael.AuditEvent{
		{Time: at(4), Action: zael.EntityDeleted, Principal: "alice", Entity: "key-1"},
		{Time: at(3), Action: zael.LimitsDeleted, Principal: "alice"},
		{Time: at(2), Action: zael.LimitsSet, Principal: "alice", Details: map[string]string{"limits": "rpm=10/min"}},
		{
			Time: at(1), Action: zael.LimitsSet, Principal: "alice", Entity: "key-1", Resource: "gpt-4",
			Details: map[string]string{"limits": "rpm=10/min, tpm=100/min burst 7"},
		},
		{
			Time: at(0), Action: zael.EntityCreated, Principal: "alice", Entity: "key-1",
			Details: map[string]string{"name": "One", "parent_id": "org", "cascade": "true"},
		},
	}
	for _, c := range []struct {
		q    zael.AuditQuery
		want []zael.AuditEvent
	}{
		{zael.AuditQuery{}, want},
		{zael.AuditQuery{Max: 2}, want[:2]},
		{zael.AuditQuery{Entity: "key-1"}, []zael.AuditEvent{want[0], want[3], want[4]}},
		{zael.AuditQuery{From: at(1), To: at(3)}, want[2:4]},
		{zael.AuditQuery{From: at(3), To: at(3)}, nil},
		{zael.AuditQuery{Entity: "nobody"}, nil},
	} {
		got, err := r.l.Audit(r.ctx, c.q)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%+v: got %v, %v\nwant %v", c.q, got, err, c.want)
		}
	}
}

func TestAuditMax(t *testing.T) {
	t.Parallel()
	r := setup(t)
	for i := range 150 {
		r.create(zael.Entity{ID: fmt.Sprintf("e%d", i)})
	}
	for most, want := range map[int]int{0: 100, 1: 1, 120: 120, 1000: 150} {
		if got, err := r.l.Audit(r.ctx, zael.AuditQuery{Max: most}); err != nil || len(got) != want {
			t.Errorf("Max %d: got %d events, %v, want %d", most, len(got), err, want)
		}
	}
}

// Errors of the store in these calls are told as they are, unavailability as an
// *UnavailableError.
func TestStoreErrorsOfTheOtherCalls(t *testing.T) {
	t.Parallel()
	denied := errors.New("denied")
	for _, cause := range []error{denied, zael.ErrUnavailable, context.DeadlineExceeded} {
		l, err := zael.New(&broken{Store: memstore.New(nil), err: cause}, &zael.Config{FailureMode: zael.FailOpen})
		if err != nil {
			t.Fatal(err)
		}
		for call, do := range otherCalls(l) {
			err := do(t.Context())
			var u *zael.UnavailableError
			if !errors.Is(err, cause) || errors.As(err, &u) != !errors.Is(cause, denied) || u != nil && u.Store != "*zael_test.broken" {
				t.Errorf("%s with %v: got %v, want it, as an *UnavailableError unless denied", call, cause, err)
			}
		}
	}
}

// otherCalls are the calls besides those on buckets.
func otherCalls(l *zael.Limiter) map[string]func(context.Context) error {
	one := []zael.Limit{zael.PerMinute("rpm", 1)}
	return map[string]func(context.Context) error{
		"CreateEntity": func(ctx context.Context) error { _, err := l.CreateEntity(ctx, zael.Entity{ID: "e"}); return err },
		"Entity":       func(ctx context.Context) error { _, err := l.Entity(ctx, "e"); return err },
		"Children":     func(ctx context.Context) error { _, err := l.Children(ctx, "e"); return err },
		"DeleteEntity": func(ctx context.Context) error { return l.DeleteEntity(ctx, "e") },
		"SetLimits":    func(ctx context.Context) error { return l.SetLimits(ctx, zael.Scope{}, one) },
		"Limits":       func(ctx context.Context) error { _, err := l.Limits(ctx, zael.Scope{}); return err },
		"DeleteLimits": func(ctx context.Context) error { return l.DeleteLimits(ctx, zael.Scope{}) },
		"ResourceCapacity": func(ctx context.Context) error {
			_, err := l.ResourceCapacity(ctx, "r", "rpm", zael.CapacityOptions{})
			return err
		},
		"Usage": func(ctx context.Context) error { _, err := l.Usage(ctx, zael.UsageQuery{Entity: "e"}); return err },
		"Audit": func(ctx context.Context) error { _, err := l.Audit(ctx, zael.AuditQuery{}); return err },
	}
}

// A broken store fails in every role but that of buckets.
type broken struct {
	*memstore.Store
	err error
}

func failing[T any](err error) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		yield(none, err)
	}
}

func (b *broken) CreateEntity(context.Context, zael.Entity, zael.AuditEvent) error { return b.err }
func (b *broken) Entities(context.Context, []string) ([]zael.Entity, error)        { return nil, b.err }
func (b *broken) DeleteEntity(context.Context, string, zael.AuditEvent) error      { return b.err }
func (b *broken) Children(context.Context, string) iter.Seq2[zael.Entity, error] {
	return failing[zael.Entity](b.err)
}

func (b *broken) Limits(context.Context, []zael.Scope) ([]zael.LimitSet, error) { return nil, b.err }

func (b *broken) EntityBuckets(context.Context, string) iter.Seq2[zael.Bucket, error] {
	return failing[zael.Bucket](b.err)
}

func (b *broken) SetLimits(context.Context, zael.Scope, []zael.Limit, zael.AuditEvent) (int64, error) {
	return 0, b.err
}

func (b *broken) DeleteLimits(context.Context, zael.Scope, zael.AuditEvent) (int64, error) {
	return 0, b.err
}

func (b *broken) ResourceBuckets(context.Context, string) iter.Seq2[zael.Bucket, error] {
	return failing[zael.Bucket](b.err)
}

func (b *broken) Usage(context.Context, zael.UsageQuery) iter.Seq2[zael.UsageRecord, error] {
	return failing[zael.UsageRecord](b.err)
}

func (b *broken) Audit(context.Context, zael.AuditQuery) iter.Seq2[zael.AuditEvent, error] {
	return failing[zael.AuditEvent](b.err)
}
