package storetest_test

import (
	"context"
	"iter"
	"time"

	"github.com/zeroae/zael"
)

// override is a reference with other methods in the place of some.
type override struct {
	*reference

	take        func(ctx context.Context, now time.Time, maxWait time.Duration, debits []zael.Debit) (time.Time, error)
	adjust      func(ctx context.Context, now time.Time, debits []zael.Debit) (time.Time, error)
	buckets     func(ctx context.Context, now time.Time, keys []zael.Key) (time.Time, []zael.Bucket, error)
	latest      func() time.Time
	localAdjust func(now time.Time, debits []zael.Debit) (time.Time, bool, error)
	local       func(now time.Time, maxWait time.Duration, debits []zael.Debit) (time.Time, bool, error)
	create      func(ctx context.Context, e zael.Entity, event zael.AuditEvent) error
	entities    func(ctx context.Context, ids []string) ([]zael.Entity, error)
	remove      func(ctx context.Context, id string, event zael.AuditEvent) error
	children    func(ctx context.Context, parent string) iter.Seq2[zael.Entity, error]
	apply       func(ctx context.Context, edits []zael.Edit) error
	set         func(ctx context.Context, scope zael.Scope, limits []zael.Limit, event zael.AuditEvent) (int64, error)
	unset       func(ctx context.Context, scope zael.Scope, event zael.AuditEvent) (int64, error)
	limits      func(ctx context.Context, scopes []zael.Scope) ([]zael.LimitSet, error)
	ofEntity    func(ctx context.Context, entity string) iter.Seq2[zael.Bucket, error]
	ofResource  func(ctx context.Context, resource string) iter.Seq2[zael.Bucket, error]
	listed      func(ctx context.Context, q zael.ListQuery) ([]zael.Entity, error)
	scopes      func(ctx context.Context, q zael.ScopeQuery) ([]zael.ScopeLimits, error)
	resources   func(ctx context.Context, q zael.ListQuery) ([]string, error)
	usage       func(ctx context.Context, q zael.UsageQuery) iter.Seq2[zael.UsageRecord, error]
	administer  func(ctx context.Context, now time.Time, edit zael.Edit, once zael.Once) (zael.EditResult, error)
	settings    func(ctx context.Context, scopes []zael.Scope) ([]zael.Settings, error)
	state       func(ctx context.Context) (zael.StoreState, error)
	audit       func(ctx context.Context, q zael.AuditQuery) iter.Seq2[zael.AuditEvent, error]
}

// overridden is a reference with methods replaced by change. TakeLocal and
// AdjustLocal answer nothing unless they are replaced too.
func overridden(change func(o *override, good *reference)) *override {
	good := newReference()
	o := &override{
		reference: good,
		take:      good.Take, adjust: good.Adjust, buckets: good.Buckets, latest: good.LatestInstant,
		local:       func(now time.Time, _ time.Duration, _ []zael.Debit) (time.Time, bool, error) { return now, false, nil },
		localAdjust: func(now time.Time, _ []zael.Debit) (time.Time, bool, error) { return now, false, nil },
		create:      good.CreateEntity, entities: good.Entities, remove: good.DeleteEntity, children: good.Children,
		apply: good.Apply, set: good.SetLimits, unset: good.DeleteLimits, limits: good.Limits,
		ofEntity: good.EntityBuckets, ofResource: good.ResourceBuckets, usage: good.Usage, audit: good.Audit,
		listed: good.ListEntities, scopes: good.ListScopes, resources: good.ListResources,
		administer: good.Administer, settings: good.Settings, state: good.State,
	}
	change(o, good)
	return o
}

func (o *override) Take(ctx context.Context, now time.Time, maxWait time.Duration, debits []zael.Debit) (time.Time, error) {
	return o.take(ctx, now, maxWait, debits)
}

func (o *override) Adjust(ctx context.Context, now time.Time, debits []zael.Debit) (time.Time, error) {
	return o.adjust(ctx, now, debits)
}

func (o *override) Buckets(ctx context.Context, now time.Time, keys []zael.Key) (time.Time, []zael.Bucket, error) {
	return o.buckets(ctx, now, keys)
}

func (o *override) LatestInstant() time.Time { return o.latest() }

func (o *override) TakeLocal(now time.Time, maxWait time.Duration, debits []zael.Debit) (time.Time, bool, error) {
	return o.local(now, maxWait, debits)
}

func (o *override) AdjustLocal(now time.Time, debits []zael.Debit) (time.Time, bool, error) {
	return o.localAdjust(now, debits)
}

func (o *override) Apply(ctx context.Context, edits []zael.Edit) error { return o.apply(ctx, edits) }

func (o *override) CreateEntity(ctx context.Context, e zael.Entity, event zael.AuditEvent) error {
	return o.create(ctx, e, event)
}

func (o *override) Entities(ctx context.Context, ids []string) ([]zael.Entity, error) {
	return o.entities(ctx, ids)
}

func (o *override) DeleteEntity(ctx context.Context, id string, event zael.AuditEvent) error {
	return o.remove(ctx, id, event)
}

func (o *override) Children(ctx context.Context, parent string) iter.Seq2[zael.Entity, error] {
	return o.children(ctx, parent)
}

func (o *override) SetLimits(ctx context.Context, scope zael.Scope, limits []zael.Limit, event zael.AuditEvent) (int64, error) {
	return o.set(ctx, scope, limits, event)
}

func (o *override) DeleteLimits(ctx context.Context, scope zael.Scope, event zael.AuditEvent) (int64, error) {
	return o.unset(ctx, scope, event)
}

func (o *override) Limits(ctx context.Context, scopes []zael.Scope) ([]zael.LimitSet, error) {
	return o.limits(ctx, scopes)
}

func (o *override) EntityBuckets(ctx context.Context, entity string) iter.Seq2[zael.Bucket, error] {
	return o.ofEntity(ctx, entity)
}

func (o *override) ResourceBuckets(ctx context.Context, resource string) iter.Seq2[zael.Bucket, error] {
	return o.ofResource(ctx, resource)
}

func (o *override) Usage(ctx context.Context, q zael.UsageQuery) iter.Seq2[zael.UsageRecord, error] {
	return o.usage(ctx, q)
}

func (o *override) Audit(ctx context.Context, q zael.AuditQuery) iter.Seq2[zael.AuditEvent, error] {
	return o.audit(ctx, q)
}

func (o *override) Administer(ctx context.Context, now time.Time, edit zael.Edit, once zael.Once) (zael.EditResult, error) {
	return o.administer(ctx, now, edit, once)
}

func (o *override) Settings(ctx context.Context, scopes []zael.Scope) ([]zael.Settings, error) {
	return o.settings(ctx, scopes)
}

func (o *override) State(ctx context.Context) (zael.StoreState, error) { return o.state(ctx) }

func (o *override) ListEntities(ctx context.Context, q zael.ListQuery) ([]zael.Entity, error) {
	return o.listed(ctx, q)
}

func (o *override) ListScopes(ctx context.Context, q zael.ScopeQuery) ([]zael.ScopeLimits, error) {
	return o.scopes(ctx, q)
}

func (o *override) ListResources(ctx context.Context, q zael.ListQuery) ([]string, error) {
	return o.resources(ctx, q)
}
