package zael

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"time"

	"github.com/zeroae/zael/internal/decimal"
	"github.com/zeroae/zael/internal/saturate"
)

// CapacityOptions tune [Limiter.ResourceCapacity].
type CapacityOptions struct {
	ParentsOnly bool // count only entities without a parent; one that was never created has none
}

// An EntityCapacity is one entity's part of a [ResourceCapacity].
type EntityCapacity struct {
	Entity      string  `json:"entity_id"`
	Kind        Kind    `json:"kind"`            // by its name
	Capacity    int64   `json:"capacity"`        // tokens: the limit's Capacity, the amount of a quota or session, or the slots; 0 if blocked or unlimited
	Available   int64   `json:"available"`       // tokens, up to the burst; below 0 is debt; 0 if blocked or unlimited
	Utilization float64 `json:"utilization_pct"` // share of Capacity that is not available, to six decimals: from 0; above 100 is debt
}

// A ResourceCapacity adds up one limit over the entities that use a resource. Sums
// saturate at the ends of int64. Entities of which the limit blocks or is unlimited are
// counted apart, and are in no sum.
type ResourceCapacity struct {
	Resource    string           `json:"resource"`
	Limit       string           `json:"limit_name"`
	Capacity    int64            `json:"total_capacity"`
	Available   int64            `json:"total_available"`
	Utilization float64          `json:"utilization_pct"` // of the totals; see EntityCapacity
	Blocked     int              `json:"blocked"`         // entities
	Unlimited   int              `json:"unlimited"`       // entities
	Entities    []EntityCapacity `json:"entities"`        // in order of ID
}

// entityBatch is how many entities are read in one call.
const entityBatch = 100

// ResourceCapacity adds up a limit of a resource over all entities that have a bucket
// in use. Full buckets may be missing, as stores forget them. Errors:
// [*ValidationError], and those of [Limiter.CreateEntity] that all methods for stored
// data have.
func (l *Limiter) ResourceCapacity(ctx context.Context, resource, limit string, options CapacityOptions) (ResourceCapacity, error) {
	sum := ResourceCapacity{Resource: resource, Limit: limit, Entities: []EntityCapacity{}}
	if err := l.checkOpen(); err != nil {
		return sum, err
	}
	if err := checkResource("resource", resource); err != nil {
		return sum, err
	}
	if !validName(limit) {
		return sum, invalid("limit", limit, nameRule)
	}
	reader, ok := l.store.(CapacityReader)
	if !ok {
		return sum, l.unsupported("CapacityReader")
	}
	if options.ParentsOnly && l.entityStore == nil {
		return sum, l.unsupported("EntityStore")
	}
	at, err := l.instant()
	if err != nil {
		return sum, err
	}
	for b, err := range l.liveBuckets(ctx, reader.ResourceBuckets(ctx, resource), func(b *Bucket) bool { return holdsSlots(b.state(limit)) }) {
		if err != nil {
			return sum, l.storeError(ctx, Key{Resource: resource}, err)
		}
		state := b.state(limit)
		if state.Absent() {
			continue
		}
		e := EntityCapacity{Entity: b.Key.Entity, Kind: limitOf(limit, state.Definition).Kind()}
		if e.Kind != KindBlock && e.Kind != KindUnlimited {
			e.Capacity, e.Available = state.Definition.Capacity, state.Available(at)
			e.Utilization = utilization(e.Capacity, e.Available)
		}
		sum.Entities = append(sum.Entities, e)
	}
	if options.ParentsOnly {
		if sum.Entities, err = l.withoutParent(ctx, sum.Entities); err != nil {
			return sum, l.storeError(ctx, Key{Resource: resource}, err)
		}
	}
	slices.SortFunc(sum.Entities, func(a, b EntityCapacity) int { return cmp.Compare(a.Entity, b.Entity) })
	for _, e := range sum.Entities {
		switch e.Kind {
		case KindBlock:
			sum.Blocked++
		case KindUnlimited:
			sum.Unlimited++
		default:
			sum.Capacity = saturate.Add(sum.Capacity, e.Capacity)
			sum.Available = saturate.Add(sum.Available, e.Available)
		}
	}
	sum.Utilization = utilization(sum.Capacity, sum.Available)
	return sum, nil
}

// liveBuckets returns buckets, of which those whose slots are held are read again, as of
// now: some of the holders may have died since the last change.
func (l *Limiter) liveBuckets(ctx context.Context, buckets iter.Seq2[Bucket, error], held func(*Bucket) bool) iter.Seq2[Bucket, error] {
	return func(yield func(Bucket, error) bool) {
		var keys []Key
		again := func() bool {
			_, batch, err := l.store.Buckets(ctx, l.now(), keys)
			if err != nil {
				yield(Bucket{}, err)
				return false
			}
			for _, b := range batch {
				if !yield(b, nil) {
					return false
				}
			}
			keys = keys[:0]
			return true
		}
		for b, err := range buckets {
			if err == nil && held(&b) {
				if keys = append(keys, b.Key); len(keys) == entityBatch && !again() {
					return
				}
				continue
			}
			if !yield(b, err) {
				return
			}
		}
		if len(keys) > 0 {
			again()
		}
	}
}

func (l *Limiter) withoutParent(ctx context.Context, all []EntityCapacity) ([]EntityCapacity, error) {
	kept := []EntityCapacity{}
	for batch := range slices.Chunk(all, entityBatch) {
		ids := make([]string, len(batch))
		for i := range batch {
			ids[i] = batch[i].Entity
		}
		entities, err := l.entityStore.Entities(ctx, ids)
		if err != nil {
			return nil, err
		}
		for i := range entities {
			if entities[i].ParentID == "" {
				kept = append(kept, batch[i])
			}
		}
	}
	return kept, nil
}

func utilization(capacity, available int64) float64 {
	return max(0, decimal.Percent(float64(capacity)-float64(available), float64(capacity)))
}

// A Window is a span of time in which usage is counted. Windows begin at the full hour,
// day or month in UTC.
type Window string

// The windows.
const (
	Hourly  Window = "hourly"
	Daily   Window = "daily"
	Monthly Window = "monthly"
)

// Bounds returns the window that contains t: it begins at start and ends before end,
// both in UTC. A Window that is not one of the constants is treated as Hourly.
func (w Window) Bounds(t time.Time) (start, end time.Time) {
	t = t.UTC()
	switch w {
	case Monthly:
		start = time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC)
		return start, start.AddDate(0, 1, 0)
	case Daily:
		start = time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC)
		return start, start.AddDate(0, 0, 1)
	default:
		start = time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), 0, 0, 0, time.UTC)
		return start, start.Add(time.Hour)
	}
}

// A UsageQuery selects usage. At least one of Entity and Resource is required.
type UsageQuery struct {
	Entity, Resource string    // all if empty
	Window           Window    // Hourly if empty
	From, To         time.Time // windows that start at From or later and before To; zero: see WithDefaults
}

// WithDefaults returns the query with Window Hourly if it is empty. If the query names no
// entity, an empty From becomes that of the latest 24 hours, 31 days or 12 months before
// To, or now: a store may have to look for each window of a resource. Otherwise an empty
// From or To is no bound.
func (q UsageQuery) WithDefaults(now time.Time) UsageQuery {
	q.Window = cmp.Or(q.Window, Hourly)
	if q.Entity != "" || !q.From.IsZero() {
		return q
	}
	if !q.To.IsZero() && q.To.Before(now) {
		now = q.To.Add(-1)
	}
	start, _ := q.Window.Bounds(now)
	switch q.Window {
	case Daily:
		q.From = start.AddDate(0, 0, -30)
	case Monthly:
		q.From = start.AddDate(0, -11, 0)
	default:
		q.From = start.Add(-23 * time.Hour)
	}
	return q
}

// A UsageRecord is what one entity used of one resource in one window.
type UsageRecord struct {
	Entity   string    `json:"entity_id"`
	Resource string    `json:"resource"`
	Window   Window    `json:"window"`
	Start    time.Time `json:"start"`   // UTC
	Amounts  Amounts   `json:"amounts"` // tokens by limit, net of what was given back
	Events   int64     `json:"events"`  // acquires

	// Overdrawn has the acquires that left a limit overdrawn, by soft limit: those whose decision
	// says so in Status.Overdrawn. It is nil if there are none. On DynamoDB see
	// docs/usage-counting.md.
	Overdrawn map[string]int64 `json:"overdrawn,omitempty"`
}

// A Usage is the answer to a [UsageQuery].
type Usage struct {
	Records []UsageRecord `json:"records"`       // the newest window first
	From    time.Time     `json:"from,omitzero"` // of the query, or its default; zero: no bound

	// Amounts, Events and Overdrawn are totals of all Records. An acquire with cascade is in them
	// twice, in what the entity took and in what its parent did. So Parents are the totals
	// of those entities which are parents of others in Records; nil if there are none.
	Amounts   Amounts          `json:"amounts"`
	Events    int64            `json:"events"`
	Overdrawn map[string]int64 `json:"overdrawn,omitempty"` // see UsageRecord
	Parents   *UsageTotal      `json:"parents,omitempty"`
}

// A UsageTotal adds up a part of a Usage.
type UsageTotal struct {
	Amounts   Amounts          `json:"amounts"`
	Events    int64            `json:"events"`
	Overdrawn map[string]int64 `json:"overdrawn,omitempty"` // see UsageRecord
}

// Usage reads what was taken, with totals; see [UsageQuery.WithDefaults] for a query
// without From. A store that does not count returns an error that matches
// errors.ErrUnsupported. It runs as long as ctx lets it. Other errors: *ValidationError,
// *UnavailableError.
func (l *Limiter) Usage(ctx context.Context, q UsageQuery) (Usage, error) {
	u := Usage{Amounts: Amounts{}}
	if err := l.checkOpen(); err != nil {
		return u, err
	}
	q = q.WithDefaults(l.now())
	if err := q.validate(); err != nil {
		return u, err
	}
	store, ok := l.store.(UsageStore)
	if !ok {
		return u, l.unsupported("UsageStore")
	}
	records, err := collect(store.Usage(ctx, q))
	if err != nil {
		return u, l.storeError(ctx, Key{q.Entity, q.Resource}, err)
	}
	u.Records, u.From = records, q.From
	total := totalOf(records, func(UsageRecord) bool { return true })
	u.Amounts, u.Events, u.Overdrawn = total.Amounts, total.Events, total.Overdrawn
	if q.Entity == "" {
		u.Parents, err = l.usageOfParents(ctx, records)
	}
	return u, l.storeError(ctx, Key{q.Entity, q.Resource}, err)
}

// usageOfParents adds up what was taken of entities that are parents of others in records;
// nil if there are none.
func (l *Limiter) usageOfParents(ctx context.Context, records []UsageRecord) (*UsageTotal, error) {
	if l.entityStore == nil {
		return nil, nil
	}
	seen, parents := map[string]bool{}, map[string]bool{}
	var ids []string
	for i := range records {
		if id := records[i].Entity; !seen[id] {
			seen[id], ids = true, append(ids, id)
		}
	}
	for batch := range slices.Chunk(ids, entityBatch) {
		entities, err := l.entityStore.Entities(ctx, batch)
		if err != nil {
			return nil, err
		}
		for i := range entities {
			if p := entities[i].ParentID; seen[p] {
				parents[p] = true
			}
		}
	}
	if len(parents) == 0 {
		return nil, nil
	}
	total := totalOf(records, func(r UsageRecord) bool { return parents[r.Entity] })
	return &total, nil
}

// totalOf adds up some records. Sums stop at the ends of int64.
func totalOf(records []UsageRecord, some func(UsageRecord) bool) UsageTotal {
	total := UsageTotal{Amounts: Amounts{}}
	for _, r := range records {
		if !some(r) {
			continue
		}
		total.Events = saturate.Add(total.Events, r.Events)
		for name, n := range r.Amounts {
			total.Amounts[name] = saturate.Add(total.Amounts[name], n)
		}
		total.Overdrawn = saturate.AddAll(total.Overdrawn, r.Overdrawn)
	}
	return total
}

func (q UsageQuery) validate() error {
	if q.Entity == "" && q.Resource == "" {
		return invalid("UsageQuery", nil, "names neither Entity nor Resource: name one")
	}
	if q.Entity != "" {
		if err := checkEntity("UsageQuery.Entity", q.Entity); err != nil {
			return err
		}
	}
	if q.Resource != "" {
		if err := checkResource("UsageQuery.Resource", q.Resource); err != nil {
			return err
		}
	}
	if w := q.Window; w != Hourly && w != Daily && w != Monthly {
		return invalid("UsageQuery.Window", string(w), "is not hourly, daily or monthly")
	}
	return checkRange("UsageQuery", q.From, q.To)
}

// An AuditAction is what was done.
type AuditAction string

// The actions that are recorded.
const (
	EntityCreated AuditAction = "entity_created"
	EntityDeleted AuditAction = "entity_deleted"
	LimitsSet     AuditAction = "limits_set"
	LimitsDeleted AuditAction = "limits_deleted"

	SwitchEnabled      AuditAction = "switch_enabled"
	SwitchDisabled     AuditAction = "switch_disabled"
	SwitchBypass       AuditAction = "switch_bypass"
	SwitchRemoved      AuditAction = "switch_removed"
	FailureModeSet     AuditAction = "failure_mode_set"
	FailureModeRemoved AuditAction = "failure_mode_removed"
	ParentSet          AuditAction = "parent_set"
	BucketReset        AuditAction = "bucket_reset"
	BucketToppedUp     AuditAction = "bucket_topped_up"

	NamespaceRegistered AuditAction = "namespace_registered"
	NamespaceRemoved    AuditAction = "namespace_deleted" // it can be recovered
	NamespaceRecovered  AuditAction = "namespace_recovered"
	NamespacePurged     AuditAction = "namespace_purged"
)

// Switch returns what a change with this action makes of the switch.
func (a AuditAction) Switch() Switch {
	switch a {
	case SwitchEnabled:
		return Enabled
	case SwitchDisabled:
		return Disabled
	case SwitchBypass:
		return Bypass
	}
	return Inherit
}

// An AuditEvent records a change of entities or limits.
type AuditEvent struct {
	Time      time.Time         `json:"time"` // UTC. A change of limits is dated after those of other scopes that it outranks; then Details has the true time as "clock"
	Action    AuditAction       `json:"action"`
	Principal string            `json:"principal"`           // Config.Principal of the Limiter that made the change
	Entity    string            `json:"entity_id,omitempty"` // empty for limits of a resource or the system
	Resource  string            `json:"resource,omitempty"`
	Details   map[string]string `json:"details,omitempty"`
}

// An AuditQuery selects audit events.
type AuditQuery struct {
	Entity string    // empty means all
	From   time.Time // events at From or later; zero means no bound
	To     time.Time // events before To; zero means no bound
	Max    int       // at most this many; 0 means 100
}

const defaultAuditMax = 100

// Audit returns the changes of entities and limits, newest first. Errors:
// [*ValidationError], and those of [Limiter.CreateEntity] that all methods for stored
// data have.
func (l *Limiter) Audit(ctx context.Context, q AuditQuery) ([]AuditEvent, error) {
	if err := l.checkOpen(); err != nil {
		return nil, err
	}
	if q.Entity != "" {
		if err := checkEntity("AuditQuery.Entity", q.Entity); err != nil {
			return nil, err
		}
	}
	if q.Max < 0 {
		return nil, invalid("AuditQuery.Max", q.Max, "is negative: use 0 for the default of 100")
	}
	if err := checkRange("AuditQuery", q.From, q.To); err != nil {
		return nil, err
	}
	store, ok := l.store.(AuditStore)
	if !ok {
		return nil, l.unsupported("AuditStore")
	}
	q.Max = cmp.Or(q.Max, defaultAuditMax)
	events, err := collect(store.Audit(ctx, q))
	return events, l.storeError(ctx, Key{Entity: q.Entity}, err)
}

func checkRange(what string, from, to time.Time) error {
	if !from.IsZero() && !to.IsZero() && to.Before(from) {
		return invalid(what+".To", to.Format(time.RFC3339), "is before From, "+from.Format(time.RFC3339))
	}
	return nil
}
