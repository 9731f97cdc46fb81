package zael_test

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"maps"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/memstore"
)

// t0 is when the tests begin: a full hour.
func t0() time.Time { return time.Date(2026, time.January, 13, 14, 0, 0, 0, time.UTC) }

// A handClock stands until it is set.
type handClock struct{ ns atomic.Int64 } // after t0

func (c *handClock) now() time.Time          { return t0().Add(time.Duration(c.ns.Load())) }
func (c *handClock) set(d time.Duration)     { c.ns.Store(int64(d)) } // to t0 + d
func (c *handClock) forward(d time.Duration) { c.ns.Add(int64(d)) }

// A fake is memstore behind functions that a test can put in its place. It
// answers nothing from memory unless local is set.
type fake struct {
	*memstore.Store
	local   func(now time.Time, maxWait time.Duration, debits []zael.Debit) (time.Time, bool, error)
	take    func(ctx context.Context, now time.Time, maxWait time.Duration, debits []zael.Debit) (time.Time, error)
	adjust  func(ctx context.Context, now time.Time, debits []zael.Debit) (time.Time, error)
	limits  func(ctx context.Context, scopes []zael.Scope) ([]zael.LimitSet, error)
	ents    func(ctx context.Context, ids []string) ([]zael.Entity, error)
	buckets func(ctx context.Context, entity string) iter.Seq2[zael.Bucket, error]

	takes, adjusts, reads, limitReads, entityReads atomic.Int64
}

func (f *fake) TakeLocal(now time.Time, maxWait time.Duration, debits []zael.Debit) (time.Time, bool, error) {
	if f.local != nil {
		return f.local(now, maxWait, debits)
	}
	return now, false, nil
}

func (f *fake) AdjustLocal(now time.Time, _ []zael.Debit) (time.Time, bool, error) {
	return now, false, nil
}

func (f *fake) TakeValues(bucket.Instant, string, *zael.PolicyLimits, [4]int64) (v zael.Values, outcome bucket.Outcome, ok bool) {
	return v, outcome, false
}

func (f *fake) AdjustValues(bucket.Instant, string, *zael.PolicyLimits, [4]int64, zael.Values) bool {
	return false
}

func (f *fake) Take(ctx context.Context, now time.Time, maxWait time.Duration, debits []zael.Debit) (time.Time, error) {
	f.takes.Add(1)
	if f.take != nil {
		return f.take(ctx, now, maxWait, debits)
	}
	return f.Store.Take(ctx, now, maxWait, debits)
}

func (f *fake) Adjust(ctx context.Context, now time.Time, debits []zael.Debit) (time.Time, error) {
	f.adjusts.Add(1)
	if f.adjust != nil {
		return f.adjust(ctx, now, debits)
	}
	return f.Store.Adjust(ctx, now, debits)
}

func (f *fake) Buckets(ctx context.Context, now time.Time, keys []zael.Key) (time.Time, []zael.Bucket, error) {
	f.reads.Add(1)
	return f.Store.Buckets(ctx, now, keys)
}

func (f *fake) Limits(ctx context.Context, scopes []zael.Scope) ([]zael.LimitSet, error) {
	f.limitReads.Add(1)
	if f.limits != nil {
		return f.limits(ctx, scopes)
	}
	return f.Store.Limits(ctx, scopes)
}

func (f *fake) Entities(ctx context.Context, ids []string) ([]zael.Entity, error) {
	f.entityReads.Add(1)
	if f.ents != nil {
		return f.ents(ctx, ids)
	}
	return f.Store.Entities(ctx, ids)
}

func (f *fake) EntityBuckets(ctx context.Context, entity string) iter.Seq2[zael.Bucket, error] {
	if f.buckets != nil {
		return f.buckets(ctx, entity)
	}
	return f.Store.EntityBuckets(ctx, entity)
}

// asked is how often the hot path or its reads asked the store.
func (f *fake) asked() int64 {
	return f.takes.Load() + f.adjusts.Load() + f.reads.Load() + f.limitReads.Load() + f.entityReads.Load()
}

// down makes every call of the hot path fail.
func (f *fake) down() {
	f.take = func(context.Context, time.Time, time.Duration, []zael.Debit) (time.Time, error) {
		return time.Time{}, zael.ErrUnavailable
	}
	f.adjust = func(context.Context, time.Time, []zael.Debit) (time.Time, error) {
		return time.Time{}, zael.ErrUnavailable
	}
	f.limits = func(context.Context, []zael.Scope) ([]zael.LimitSet, error) { return nil, zael.ErrUnavailable }
	f.ents = func(context.Context, []string) ([]zael.Entity, error) { return nil, zael.ErrUnavailable }
}

// A rig is a Limiter on a store in memory, with a clock that stands at t0.
type rig struct {
	*testing.T
	l     *zael.Limiter
	store zael.Store
	clock *handClock
	ctx   context.Context //nolint:containedctx // of the test
}

func setup(t *testing.T) *rig { t.Helper(); return setupOn(t, memstore.New(nil), nil) }

// setupOn makes a rig on a store. config's clock is set, and its timeout if it has none: on a
// busy machine a thousand callers may take longer than the default.
func setupOn(t *testing.T, store zael.Store, config *zael.Config) *rig {
	t.Helper()
	r := &rig{T: t, store: store, clock: new(handClock), ctx: t.Context()}
	r.l = r.another(config)
	return r
}

func setupFake(t *testing.T, config *zael.Config) (*rig, *fake) {
	t.Helper()
	f := &fake{Store: memstore.New(nil)}
	return setupOn(t, f, config), f
}

// another makes one more Limiter on the rig's store, as another process would.
func (r *rig) another(config *zael.Config) *zael.Limiter {
	r.Helper()
	var c zael.Config
	if config != nil {
		c = *config
	}
	c.Clock = r.clock.now
	c.Timeout = cmp.Or(c.Timeout, time.Minute)
	l, err := zael.New(r.store, &c)
	if err != nil {
		r.Fatal(err)
	}
	return l
}

// ok stops the test at an error.
func (r *rig) ok(err error) {
	r.Helper()
	if err != nil {
		r.Fatalf("got %v, want no error", err)
	}
}

func (r *rig) lease(req zael.Request) *zael.Lease {
	r.Helper()
	lease, err := r.l.Reserve(r.ctx, req)
	if err != nil {
		r.Fatalf("Reserve: got %v, want a lease", err)
	}
	return lease
}

func (r *rig) allow(req zael.Request) {
	r.Helper()
	if err := r.l.Allow(r.ctx, req); err != nil {
		r.Fatalf("Allow: got %v, want it admitted", err)
	}
}

// refuses expects a refusal.
func (r *rig) refuses(req zael.Request) {
	r.Helper()
	_ = r.refused(req)
}

// refused expects a refusal and returns it.
func (r *rig) refused(req zael.Request) *zael.ExceededError {
	r.Helper()
	return r.refusal(r.l.Allow(r.ctx, req))
}

func (r *rig) refusal(err error) *zael.ExceededError {
	r.Helper()
	var e *zael.ExceededError
	if !errors.As(err, &e) || !errors.Is(err, zael.ErrExceeded) {
		r.Fatalf("got %v, want a refusal", err)
	}
	return e
}

// left expects what is available under the limits of req.
func (r *rig) left(req zael.Request, want zael.Amounts) {
	r.Helper()
	got, err := r.l.Available(r.ctx, queryOf(req))
	if err != nil || !maps.Equal(got, want) {
		r.Errorf("available: got %v, %v, want %v", got, err, want)
	}
}

func queryOf(req zael.Request) zael.Query {
	return zael.Query{
		Entity: req.Entity, Resource: req.Resource, Limits: req.Limits, ParentLimits: req.ParentLimits,
		Cascade: req.Cascade, UseStoredLimits: req.UseStoredLimits,
	}
}

// ask returns a request of key-1 on gpt-4 under limits, of nothing but consume: a
// limit that it did not name would take 1.
func ask(consume zael.Amounts, limits ...zael.Limit) zael.Request {
	all := zael.Amounts{}
	for _, l := range limits {
		all[l.Name] = 0
	}
	maps.Copy(all, consume)
	return zael.Request{Entity: "key-1", Resource: "gpt-4", Limits: limits, Consume: all}
}

// askStored is a request of key-1 on gpt-4 under stored limits.
func askStored(consume zael.Amounts) zael.Request {
	return zael.Request{Entity: "key-1", Resource: "gpt-4", Consume: consume, UseStoredLimits: true}
}

// invalidField expects a *ValidationError about a field.
func invalidField(t *testing.T, err error, field string) {
	t.Helper()
	var v *zael.ValidationError
	if !errors.As(err, &v) {
		t.Errorf("got %v, want a *ValidationError about %s", err, field)
		return
	}
	if v.Field != field || v.Reason == "" {
		t.Errorf("got field %q, reason %q, want field %q and a reason", v.Field, v.Reason, field)
	}
}
