package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/serve/live"
)

// overviewAge is how old an overview may be: the store is read once for all who look at an
// entity.
const overviewAge = 5 * time.Second

// maxInOverview is how many children and buckets an overview has.
const maxInOverview = 100

// live serves GET /v1/live, from memory.
func (c *call) live() error {
	if !c.principal.MayRead(c.principal.Prefix) {
		return c.forbid("see what is going on")
	}
	limit, _, err := c.query.page()
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, c.env.Live.Snapshot(live.View{
		Most: limit, Resource: c.query.get("resource"), All: c.principal.MayReadAll(), Covers: c.principal.MayRead,
	}))
}

// An overview is what is stored of an entity, and how its buckets stand.
type overview struct {
	entity       *zael.Entity // nil: it was not created
	settings     zael.Settings
	scopes       []zael.ScopeLimits
	buckets      []zael.BucketStatus
	children     []zael.Entity
	moreBuckets  bool
	moreChildren bool
}

// An overviewBody is an overview.
type overviewBody struct {
	Entity       string        `json:"entity_id"`
	ReadAt       time.Time     `json:"read_at"`
	Record       *zael.Entity  `json:"entity"`
	Switch       string        `json:"switch"`
	FailureMode  string        `json:"failure_mode"`
	Scopes       []limitsBody  `json:"scopes"` // with limits, of the entity
	Buckets      []bucketBody  `json:"buckets"`
	MoreBuckets  bool          `json:"more_buckets"`
	Children     []zael.Entity `json:"children"`
	MoreChildren bool          `json:"more_children"`
}

// A bucketBody is how a bucket stands, and the scope whose limits hold for it.
type bucketBody struct {
	Resource string        `json:"resource"`
	Limits   []zael.Status `json:"limits"`
	Stored   *limitsBody   `json:"stored"` // null: no limits are stored that hold for it
}

// overview serves GET /v1/entities/{id}/overview.
func (c *call) overview() error {
	if !c.principal.MayRead(c.name) {
		return c.forbid("read " + c.name)
	}
	o, at, err := c.overviews.Get(c.ctx, c.name, func(ctx context.Context) (*overview, error) { return c.readOverview(ctx, c.name) })
	if err != nil {
		return err
	}
	out := overviewBody{
		Entity: c.name, ReadAt: at.UTC().Truncate(time.Millisecond), Record: o.entity,
		Switch: o.settings.Switch.String(), FailureMode: o.settings.FailureMode.String(),
		Scopes: make([]limitsBody, len(o.scopes)), Buckets: make([]bucketBody, len(o.buckets)), MoreBuckets: o.moreBuckets,
		Children: []zael.Entity{}, MoreChildren: o.moreChildren,
	}
	for i, l := range o.scopes {
		out.Scopes[i] = limitsBody{Entity: l.Scope.Entity, Resource: l.Scope.Resource, Limits: l.Limits}
	}
	for i := range o.buckets {
		b := &o.buckets[i]
		out.Buckets[i] = bucketBody{Resource: b.Resource, Limits: b.Statuses}
		if len(b.Stored.Limits) > 0 {
			out.Buckets[i].Stored = &limitsBody{Entity: b.Stored.Scope.Entity, Resource: b.Stored.Scope.Resource, Limits: b.Stored.Limits}
		}
	}
	for i := range o.children {
		if c.principal.MayRead(o.children[i].ID) {
			out.Children = append(out.Children, o.children[i])
		}
	}
	return c.answer(http.StatusOK, out)
}

// readOverview reads an overview. What the store lacks the role for is left out.
func (h *handler) readOverview(ctx context.Context, id string) (*overview, error) {
	o := new(overview)
	e, err := h.limiter.Entity(ctx, id)
	switch {
	case err == nil:
		o.entity = &e
	case !errors.Is(err, zael.ErrEntityNotFound) && !errors.Is(err, errors.ErrUnsupported):
		return nil, err
	}
	if o.settings, err = h.limiter.Settings(ctx, zael.Scope{Entity: id}); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return nil, err
	}
	if o.buckets, err = h.limiter.EntityBuckets(ctx, id, maxInOverview+1); err != nil {
		return nil, err
	}
	if o.moreBuckets = len(o.buckets) > maxInOverview; o.moreBuckets {
		o.buckets = o.buckets[:maxInOverview]
	}
	if o.scopes, err = h.scopesOf(ctx, id); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return nil, err
	}
	store, ok := h.env.Store.(zael.EntityStore)
	if !ok {
		return o, nil
	}
	for child, err := range store.Children(ctx, id) {
		if err != nil {
			return nil, err
		}
		if o.moreChildren = len(o.children) == maxInOverview; o.moreChildren {
			break
		}
		o.children = append(o.children, child)
	}
	return o, nil
}

// scopesOf returns the scopes of an entity that have limits, which are the first of those that
// begin like it.
func (h *handler) scopesOf(ctx context.Context, id string) (own []zael.ScopeLimits, err error) {
	q := zael.ScopeQuery{Prefix: id, Max: 20}
	for len(own) < maxPage {
		page, err := h.limiter.Scopes(ctx, q)
		if err != nil {
			return nil, err
		}
		for i := range page {
			if page[i].Scope.Entity != id {
				return own, nil
			}
			own = append(own, page[i])
		}
		if len(page) < q.Max {
			break
		}
		q.After = &page[len(page)-1].Scope
	}
	return own, nil
}
