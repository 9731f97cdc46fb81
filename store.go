package zael

import (
	"context"
	"iter"
	"time"

	"github.com/zeroae/zael/bucket"
)

// A Store keeps buckets, and by further roles found by type assertion
// ([EntityStore], [LimitStore], [AdminStore], [NamespaceStore], [Applier], [SlotStore],
// [OnceStore], [CapacityReader], [ListStore], [UsageStore], [AuditStore], [InstantStore], [LocalStore],
// [ValueStore])
// what else a Limiter can work with. Package storetest checks every sentence of their
// comments.
//
// What holds for all roles: all methods may be called concurrently. Time comes
// in as an argument; a store does not read a clock to decide about tokens.
// A method that does I/O stops when its context is done and returns an error
// that matches the context's. An engine that cannot be reached, is overloaded
// or fails by itself (5xx) gives an error matching [ErrUnavailable]; a wrong
// argument a *[ValidationError]; anything else (access denied, a missing
// table, a bug) neither. Names that differ are never mixed up: not by case,
// nor by any character in them.
type Store interface {
	BucketStore
}

// A Key names a bucket.
type Key struct {
	Entity, Resource string
}

// A Debit is what one operation does to one bucket: to its limits, at once.
// A limit of the bucket that no charge names stays as it is.
type Debit struct {
	Key     Key
	Charges []Charge

	// Holder has the slots that the debit takes or releases: a process that shares the
	// store, or a lease that has left its process. "" is this process, in a store that
	// is in its memory; other stores refuse slots without a holder.
	Holder string

	// SettingsRev is the revision of the settings under which a take is made: the greatest
	// of those that hold for the key.
	SettingsRev int64
	// Bypass has the operation count its charges as usage and change nothing else.
	Bypass bool
}

// A Charge is one limit's part of a Debit. A store keeps no reference to it.
type Charge = bucket.Charge

// A Bucket is a bucket as it was read.
type Bucket struct {
	Key    Key
	Limits []LimitState // in order of name; none if the bucket is missing, which is a full one
}

// A LimitState is one limit of a Bucket.
type LimitState = bucket.LimitState

// A BucketStore keeps buckets: a [bucket.Record] for each Key. Take and Adjust
// are three steps: read the records of the debits, call the method of the same
// name on each, and write what [bucket.Record.Finish] leaves.
//
// A store may forget a bucket that is full. Limits of a bucket that are full and
// that no call names it forgets sooner or later (bucket.State.Forgettable), so
// that names that are used once do not add up. Forgetting shows in one case: when a quota
// becomes a session, and its start is less than the session's length ago, the session
// begins at that start, or, if the quota was forgotten and used again, at that of the
// calendar's period.
type BucketStore interface {
	// Take applies every charge of every debit or none (bucket.Record.Take).
	// What it does to one bucket is one step that no other call sees half done;
	// a store that cannot take from two buckets in one step gives back what it
	// took from one when the other refuses. The debits have different keys and
	// the charges of one debit different names.
	//
	// If all fit by maxWait after now it takes them, writes the Receipt of each
	// charge ([Charge.Taken] is the state then) and returns the instant that
	// counted. If any does not fit, nothing is taken, State is the bucket as it
	// is, under the charge's definition, and the error matches ErrExceeded; the
	// store keeps a definition that would admit sooner, and only such a one. If
	// a bucket stands under a newer revision of a stored limit than a charge
	// (bucket.State.Stale), nothing changes, State is as kept, and the error
	// matches ErrStaleLimits.
	//
	// Of a debit with Bypass nothing is taken and nothing refuses; State and Receipt
	// show the limits as they are. If the store is an AdminStore and knows of
	// settings of the key that are newer than a debit's SettingsRev, nothing changes
	// and the error matches ErrStaleSettings.
	//
	// A caller whose ctx ends before Take has answered holds nothing. Take then
	// returns at once; what is taken for the caller all the same is given back,
	// to all buckets and from what is counted, as soon as the store knows of it.
	//
	// A now older than one already seen never gives tokens.
	Take(ctx context.Context, now time.Time, maxWait time.Duration, debits []Debit) (at time.Time, err error)

	// Adjust counts the charges of a debit with Bypass and does nothing else with it.
	// Otherwise it charges amounts above 0, gives back those below, and brings limits
	// under definitions, as bucket.Record.Adjust says; of a bucket that is gone
	// or was recreated it gives nothing back. It never refuses; all debits or none
	// are applied where the store can. A give counts by the later of now and
	// the latest instant that this process has seen for the bucket. Charges of
	// a debit may name a limit any number of times; they are applied in order.
	Adjust(ctx context.Context, now time.Time, debits []Debit) (at time.Time, err error)

	// Buckets reads, in the order of keys, and changes nothing.
	Buckets(ctx context.Context, now time.Time, keys []Key) (at time.Time, buckets []Bucket, err error)
}

// A LocalStore answers some calls at once, from the memory of this process.
// They are asked before, and outside of, the Limiter's deadline and breaker.
type LocalStore interface {
	// TakeLocal is Take if it can be answered without waiting for anything
	// outside the process. If not, answered is false, nothing has changed, and
	// Take has to be asked.
	TakeLocal(now time.Time, maxWait time.Duration, debits []Debit) (at time.Time, answered bool, err error)

	// AdjustLocal is Adjust in the same way.
	AdjustLocal(now time.Time, debits []Debit) (at time.Time, answered bool, err error)
}

// A ValueStore answers the commonest calls from the memory of this process, by
// value. It is asked before a [LocalStore]. The limits that it is given never change.
//
// Slots are those of this process, as of a Debit without a Holder: a Limiter does not ask a
// ValueStore that is a [SlotStore] too.
type ValueStore interface {
	// TakeValues is Take of amounts, 0 to bucket.MaxAmount, of one to four limits
	// from one bucket at an instant. It returns the limits after it or, if one
	// refuses, as they are. It answers only if the bucket has each
	// limit under that very definition, and nobody has stored settings, and refuses
	// only by an instant that is not before the bucket's last change; otherwise ok is
	// false and nothing has changed.
	TakeValues(at bucket.Instant, entity string, p *PolicyLimits, amounts [4]int64) (v Values, outcome bucket.Outcome, ok bool)

	// AdjustValues is Adjust in the same way, of the charges that v was returned for: it
	// charges amounts above 0, and gives back those below.
	AdjustValues(at bucket.Instant, entity string, p *PolicyLimits, amounts [4]int64, v Values) (ok bool)
}

// PolicyLimits are the limits of a Policy for a ValueStore.
type PolicyLimits struct {
	Resource string
	Limits   []bucket.Limit
}

// Values are the states of up to four limits, in their order, without the definitions.
type Values struct {
	Marks, Used [4]int64
	Generations [4]uint64
}

// A SlotStore keeps slots of holders that may die without releasing them. A Limiter names
// itself as the holder of the slots that it takes from such a store, and renews them when
// it has not written them for a quarter of their hold. In a store without this role, slots
// are held until they are released.
type SlotStore interface {
	// Renew moves the deadline of d.Holder, which has the slots that the charges name
	// under their receipts, to now and the longest hold of its slots. It takes
	// nothing: if the holder was removed, as it was late, held is false and nothing has
	// changed; the Limiter then takes the slots again, by Take. OnceStore.Extend does the
	// same for a detached lease, which is a holder of its own.
	Renew(ctx context.Context, now time.Time, d Debit) (held bool, err error)
}

// An InstantStore counts by its callers' clocks and remembers how late it is by
// them. A Limiter without a Config.Clock goes on from there where the wall clock
// is behind, because it was set back, so that tokens go on refilling. A store
// that counts by an engine's clock is told the wall clock as it is, and lacks
// the role.
type InstantStore interface {
	// LatestInstant returns the latest now of Take and Adjust that the store
	// knows of, by any process; the zero Time if there is none. It may be up to
	// a second earlier than the latest one that this store was given, but not
	// earlier than the last change of a bucket that this store has since taken
	// from, refused or read. It does no I/O.
	LatestInstant() time.Time
}

// An EntityStore keeps entities. Each change and its audit event are one step.
type EntityStore interface {
	// CreateEntity adds e, or returns ErrEntityExists.
	CreateEntity(ctx context.Context, e Entity, event AuditEvent) error
	// Entities reads, in the order of ids; a missing entity comes back zero.
	Entities(ctx context.Context, ids []string) ([]Entity, error)
	// DeleteEntity removes the entity, its buckets, its limits with their
	// tombstones and its usage; its audit events stay. It returns
	// ErrEntityNotFound if there is none of these.
	DeleteEntity(ctx context.Context, id string, event AuditEvent) error
	// Children iterates the entities whose parent this is, by id.
	Children(ctx context.Context, parent string) iter.Seq2[Entity, error]
}

// A LimitSet is what is stored for a scope.
type LimitSet struct {
	Limits []Limit // none if there is nothing, or it was deleted
	Rev    int64   // of the last change, µs since 1970; 0 if there was none
}

// A LimitStore keeps stored limits. Each change and its audit event are one
// step, and a reader sees a set of limits whole or not at all.
type LimitStore interface {
	// SetLimits replaces what is stored for a scope by one limit or more, and
	// returns the revision: event.Time in µs, or one more than the scope's last
	// revision if that is greater. (A Limiter dates the event so that the revision
	// also exceeds those of other scopes.)
	SetLimits(ctx context.Context, scope Scope, limits []Limit, event AuditEvent) (rev int64, err error)
	// DeleteLimits leaves an empty set with a revision as SetLimits gives it.
	// Of a scope that has no limits it changes nothing, records no event and
	// returns the revision there is.
	DeleteLimits(ctx context.Context, scope Scope, event AuditEvent) (rev int64, err error)
	// Limits reads in the order of scopes, in one step where the store can; it
	// sees every change that was finished before.
	Limits(ctx context.Context, scopes []Scope) ([]LimitSet, error)
	// EntityBuckets iterates the live buckets of an entity, by resource.
	EntityBuckets(ctx context.Context, entity string) iter.Seq2[Bucket, error]
}

// An Edit is one change of what is stored, other than by a request. Its event says
// which: of the entity, scope or bucket that the event names.
type Edit struct {
	Event       AuditEvent
	Entity      Entity      // of EntityCreated; of ParentSet its ID and ParentID
	Limits      []Limit     // of LimitsSet
	FailureMode FailureMode // of FailureModeSet
	Amounts     Amounts     // of BucketToppedUp
	Names       []string    // of BucketReset: the limits, all if there are none

	// Stored are, of BucketReset and BucketToppedUp, the stored limits that hold for the
	// bucket.
	Stored []bucket.Limit
}

// Scope returns the scope that an edit is about.
func (e *Edit) Scope() Scope { return Scope{e.Event.Entity, e.Event.Resource} }

// Applies reports whether an Applier makes the edit: it is one of entities, limits or
// settings.
func (e *Edit) Applies() bool {
	switch e.Event.Action {
	case EntityCreated, LimitsSet, LimitsDeleted, SwitchEnabled, SwitchDisabled, SwitchBypass, SwitchRemoved,
		FailureModeSet, FailureModeRemoved:
		return true
	}
	return false
}

// A Once makes a change at most once. The zero Once makes it always.
type Once struct {
	Key   string    // of the change
	Hash  string    // of what is to be changed
	Until time.Time // when the key may be forgotten
}

// An EditResult is what came of an edit.
type EditResult struct {
	// Repeated says that by its key the edit had been made before: nothing was changed.
	Repeated bool `json:"-"`
	// Available is, after BucketReset and BucketToppedUp, how many tokens are there.
	Available Amounts `json:"available,omitempty"`
}

// A StoreState is what binds all requests to a store.
type StoreState struct {
	// SettingsRev is the greatest revision of any settings, 0 if none were ever stored.
	SettingsRev int64
	// Deleted says that the store's namespace is deleted: nothing in it may be used.
	Deleted bool
}

// An AdminStore keeps the settings of scopes, and makes changes of administration.
type AdminStore interface {
	// Administer makes an edit as its event's action says:
	//   - SwitchEnabled, SwitchDisabled, SwitchBypass store the switch of a scope,
	//     SwitchRemoved removes it;
	//   - FailureModeSet and FailureModeRemoved do that with its failure mode;
	//   - ParentSet gives an entity another parent or none. ErrEntityNotFound means that
	//     the entity or the parent was not created, ErrParentCycle that the entity is
	//     the parent or one of its ancestors;
	//   - BucketReset and BucketToppedUp fill limits of a bucket, as Edit.Fill says.
	//     They count as no usage.
	//
	// The change, its event and the once-key are one step. A key that is known with
	// the same Hash gives the first result again, with Repeated, and changes nothing; one
	// that is known with another Hash ErrKeyUsed. A key of a change that failed is
	// free. Removing what is not there changes nothing and records no event.
	//
	// Settings get a revision that is greater than each that their scope had and, where
	// the store can tell, than any: the event's time in µs, or more. When Administer
	// returns, Take knows them for all live buckets of an entity that they bind.
	Administer(ctx context.Context, now time.Time, edit Edit, once Once) (EditResult, error)
	// Settings reads in the order of scopes; it sees every change that was finished
	// before.
	Settings(ctx context.Context, scopes []Scope) ([]Settings, error)
	// State reads what binds all requests, in the same way.
	State(ctx context.Context) (StoreState, error)
}

// An Applier makes several changes of an EntityStore and LimitStore in one step.
type Applier interface {
	// Apply makes all edits, in order and with their events, or none. Each is
	// as CreateEntity, SetLimits, DeleteLimits and, of an AdminStore, Administer
	// say; if one fails, that is the error.
	Apply(ctx context.Context, edits []Edit) error
}

// A CapacityReader reads all buckets of a resource.
type CapacityReader interface {
	// ResourceBuckets iterates the live buckets of a resource, in no order.
	// Full ones may be missing.
	ResourceBuckets(ctx context.Context, resource string) iter.Seq2[Bucket, error]
}

// A ListStore lists what there is, a page at a time: what follows q.After and begins with
// q.Prefix, both by bytes, in the order of bytes, as many as q.Max says and no fewer unless
// there are no more. What was made or deleted before is seen. q.Max is 1 or more.
type ListStore interface {
	// ListEntities returns entities that were created, by ID.
	ListEntities(ctx context.Context, q ListQuery) ([]Entity, error)
	// ListScopes returns scopes that have limits, and these, by entity and then resource:
	// the system's and those of resources are the first. The prefix is of the entity.
	ListScopes(ctx context.Context, q ScopeQuery) ([]ScopeLimits, error)
	// ListResources returns resources that have a live bucket, or limits stored for the
	// resource itself. It may have others that once did, and learn of a resource's first
	// bucket a moment after it was made.
	ListResources(ctx context.Context, q ListQuery) ([]string, error)
}

// A UsageStore counts what Take and Adjust take and give: amounts net of what is
// given back, one event for each Take, and one in Overdrawn for each limit that a Take,
// unless it is of a debit with Bypass, leaves overdrawn ([bucket.Charge.Overdraws]). It
// counts each once, in the same step or, where an aggregator counts, soon after. A store
// whose writes do not read counts in Overdrawn what it expects, and puts a difference
// right in its next write of the bucket that names the limit.
type UsageStore interface {
	// Usage iterates the records that q selects, the newest window first, then by
	// entity and resource. If q names no entity it has a From. A window counts what
	// was taken at instants within it, by the clock of the program that counts; days and months
	// are UTC.
	Usage(ctx context.Context, q UsageQuery) iter.Seq2[UsageRecord, error]
}

// An AuditStore keeps the events of the other roles' changes.
type AuditStore interface {
	// Audit iterates the events that q selects, newest first.
	Audit(ctx context.Context, q AuditQuery) iter.Seq2[AuditEvent, error]
}
