package zael

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/zeroae/zael/bucket"
)

// A DetachedLease is a lease as a value, without a Limiter: any process that shares the
// store can end it, with [Limiter.EndDetached], at most once. [DetachedLease.MarshalBinary]
// returns all of it as bytes, which are not authenticated: whoever can change them can have tokens
// that he never took given back. A DetachedLease does not change, and its
// methods may be called concurrently. The zero value and nil are no lease.
type DetachedLease struct {
	id        string
	principal string
	acquired  time.Time
	expires   time.Time
	parts     []detachedPart

	// What only the acquire knows.
	decision Decision
	delay    time.Duration
	repeated bool
}

// A detachedPart is what a lease took of the bucket of one part of its request, and of the parent's.
type detachedPart struct {
	debits   []Debit // with receipts; the limits of each bucket come first
	limits   [2]int  // how many limits each of the debits has
	stored   bool    // the limits are stored ones: unknown names are ignored
	degraded bool    // nothing was taken
	entity   string  // of the request, and its resource: of a degraded part there is no debit
	resource string
}

// DetachOptions tune [Limiter.AcquireDetached].
type DetachOptions struct {
	// MaxAge is how long the lease can be ended: 1 s to 30 days, 0 for a day. What was taken
	// stands after it.
	MaxAge time.Duration

	// Principal names who acquires: 0 to 128 bytes. It is kept in the lease, and
	// idempotency keys of different principals differ.
	Principal string

	// IdempotencyKey makes the take once, however often it is asked for: a repetition within
	// ten minutes takes nothing and returns the first lease, on any process. It is 1 to 128
	// printable ASCII characters, and belongs to one request: with another one, the error matches
	// ErrKeyUsed. A refusal keeps no key. A caller whose ctx ends before the answer may have
	// taken. With a key, requests with MaxWait wait in turns.
	IdempotencyKey string
}

const (
	defaultMaxAge = 24 * time.Hour
	mostMaxAge    = 30 * 24 * time.Hour
	mostPrincipal = 128
	mostOnceKey   = 128
	keepTake      = 10 * time.Minute // an idempotency key of an acquire
	keepEnd       = time.Hour        // the key of an end, beyond the lease, as clocks differ
)

// check returns an error if o is not valid.
func (o *DetachOptions) check() error {
	switch {
	case o.MaxAge != 0 && (o.MaxAge < time.Second || o.MaxAge > mostMaxAge):
		return invalid("DetachOptions.MaxAge", o.MaxAge, fmt.Sprintf("is not in 1s to %v: use 0 for the default of %v", mostMaxAge, defaultMaxAge))
	case len(o.Principal) > mostPrincipal:
		return invalid("DetachOptions.Principal", o.Principal, fmt.Sprintf("is longer than %d bytes", mostPrincipal))
	case o.IdempotencyKey == "":
		return nil
	}
	return checkOnceKey("DetachOptions.IdempotencyKey", o.IdempotencyKey)
}

// checkOnceKey returns an error if key cannot be the idempotency key of a take.
func checkOnceKey(field, key string) error {
	if len(key) > mostOnceKey {
		return invalid(field, key, fmt.Sprintf("is longer than %d characters", mostOnceKey))
	}
	for i := range len(key) {
		if c := key[i]; c < ' ' || c > '~' {
			return invalid(field, key, "is not of printable ASCII characters alone")
		}
	}
	return nil
}

// A detaching is what the attempts of a request have whose lease leaves the process.
type detaching struct {
	lease DetachedLease // as far as it is known
	once  *OnceTake     // nil: it is taken whenever it is asked for
	first []byte        // what was kept with the key, if that was used before
	parts []partShape   // of the debits that are taken
}

// A partShape says which debits are of a part.
type partShape struct {
	debits int
	part   detachedPart
}

// partOf returns the part of a request, without its debits.
func partOf(req *Request) detachedPart {
	return detachedPart{stored: req.stored(), entity: req.Entity, resource: req.resourceName()}
}

// newLeaseKey returns 32 random bytes.
func newLeaseKey() []byte {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	return key
}

// newLeaseID returns an id: 20 characters, of which the first are of the time, so that those of
// about the same time are kept side by side.
func newLeaseID(now time.Time) string {
	var id [15]byte
	binary.BigEndian.PutUint32(id[:4], uint32(now.Unix()))
	_, _ = rand.Read(id[4:]) // never fails
	return base64.RawURLEncoding.EncodeToString(id[:])
}

// endKey returns the once-key of the end of a lease.
func endKey(id string) string { return "end/" + id }

// onceOf returns the key of a take.
func (o *DetachOptions) onceOf(req *Request, now time.Time) (*OnceTake, error) {
	if o.IdempotencyKey == "" {
		return nil, nil //nolint:nilnil // it is taken without
	}
	arguments, err := json.Marshal(takeArgumentsOf(req, o.MaxAge))
	if err != nil {
		return nil, err
	}
	hash := sha256.Sum256(arguments)
	key := sha256.Sum256([]byte(o.Principal + "\x00" + o.IdempotencyKey))
	return &OnceTake{Once: Once{
		Key: "take/" + hex.EncodeToString(key[:16]), Hash: hex.EncodeToString(hash[:16]), Until: now.Add(keepTake),
	}}, nil
}

// takeArguments are what makes two requests the same.
type takeArguments struct {
	Entity   string          `json:"entity"`
	Resource string          `json:"resource"`
	Names    []string        `json:"names"` // of a policy, in its order
	Limits   []string        `json:"limits"`
	Parent   []string        `json:"parent"`
	Amounts  []int64         `json:"amounts"`
	Consume  Amounts         `json:"consume"`
	Flags    [2]bool         `json:"flags"`
	Mode     FailureMode     `json:"mode"`
	MaxWait  time.Duration   `json:"max_wait"`
	MaxAge   time.Duration   `json:"max_age"`
	Also     []takeArguments `json:"also"`
}

func takeArgumentsOf(req *Request, maxAge time.Duration) takeArguments {
	a := takeArguments{
		Entity: req.Entity, Resource: req.resourceName(), Limits: limitTexts(req.Limits), Parent: limitTexts(req.ParentLimits), Consume: req.Consume,
		Flags: [2]bool{req.Cascade, req.UseStoredLimits}, Mode: req.FailureMode, MaxWait: req.MaxWait, MaxAge: maxAge,
	}
	if req.positional.given() {
		a.Amounts = req.positional.all()
	}
	if p := req.Policy; p != nil {
		a.Names, a.Limits, a.Parent = p.names, boundTexts(p.bound.Limits), boundTexts(p.parent)
	}
	for i := range req.Also {
		p := &req.Also[i]
		part := Request{Entity: p.Entity, Policy: p.Policy, Resource: p.Resource, Limits: p.Limits, Consume: p.Consume, positional: p.positional}
		a.Also = append(a.Also, takeArgumentsOf(&part, 0))
	}
	return a
}

func limitTexts(limits []Limit) []string {
	texts := make([]string, len(limits))
	for i := range limits {
		texts[i] = limits[i].String()
	}
	return texts
}

func boundTexts(limits []bucket.Limit) []string {
	texts := make([]string, len(limits))
	for i := range limits {
		texts[i] = limitOf(limits[i].Name, limits[i].Definition).String()
	}
	return texts
}

// AcquireDetached is [Limiter.Acquire] that returns a lease which can leave the process. Slots
// that it takes are the lease's own, not the process's: they are free after their hold unless
// [Limiter.RenewDetached] is called in time. Nothing ends the lease by itself: if nobody does,
// what was taken stays taken.
//
// Errors are those of Limiter.Acquire, a [*ValidationError] of the options, [ErrKeyUsed], and
// [errors.ErrUnsupported] if the store is no [OnceStore].
func (l *Limiter) AcquireDetached(ctx context.Context, req Request, options DetachOptions) (*DetachedLease, error) {
	if err := l.checkOpen(); err != nil {
		return nil, err
	}
	if err := options.check(); err != nil {
		return nil, err
	}
	if l.onceStore == nil {
		return nil, l.unsupported("OnceStore")
	}
	if req.Parent != "" {
		return nil, invalid("Request.Parent", req.Parent, "is not for detached leases: store it as the entity's parent")
	}
	begun := time.Now()
	d, lease, err := l.acquireDetached(ctx, &req, &options)
	if l.observes() && (lease != nil || err != nil) { // a repetition decides nothing
		l.observedLease(ctx, &req, lease, err, begun)
	}
	return d, err
}

// acquireDetached returns the lease, also as a Lease unless it was taken before.
func (l *Limiter) acquireDetached(ctx context.Context, req *Request, options *DetachOptions) (*DetachedLease, *Lease, error) {
	now := l.now()
	once, err := options.onceOf(req, now)
	if err != nil {
		return nil, nil, err
	}
	maxAge := options.MaxAge
	if maxAge == 0 {
		maxAge = defaultMaxAge
	}
	d := &detaching{once: once, lease: DetachedLease{
		id: newLeaseID(now), principal: options.Principal, acquired: now, expires: now.Add(maxAge),
	}}
	var lease *Lease
	if len(req.Also) > 0 {
		lease, err = l.reserveMany(ctx, req, d)
	} else {
		lease, err = l.acquireOne(ctx, req, d)
	}
	if errors.Is(err, errRepeated) {
		first, err := decodeLease(d.first, true)
		if err != nil {
			return nil, nil, fmt.Errorf("zael: the lease of an idempotency key cannot be read: %w", err)
		}
		first.repeated = true
		if err := first.checkSize(); err != nil {
			return nil, nil, err // what it took was given back
		}
		return first, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	out := lease.detached(&d.lease)
	out.decision, out.delay = lease.Decision(), lease.delay
	if err := out.checkSize(); err != nil {
		_ = l.adjust(ctx, out.undoDebits())
		return nil, nil, err
	}
	return out, lease, nil
}

// checkSize returns an error if the lease has too many bytes to leave the process.
func (d *DetachedLease) checkSize() error {
	if n := len(d.encode(nil, nil)); n > mostLease {
		return invalid("Request.Limits", n, fmt.Sprintf("bytes with what was taken are more than the %d of a lease that leaves the process: name fewer limits", mostLease))
	}
	return nil
}

// acquireOne acquires for a request of one part. The lease is not to be used if it was
// acquired before.
func (l *Limiter) acquireOne(ctx context.Context, req *Request, d *detaching) (*Lease, error) {
	a := l.attempt()
	defer l.recycle(a)
	a.detach, d.parts = d, []partShape{{part: partOf(req)}}
	if req.MaxWait > 0 {
		return l.acquireIn(ctx, req, a)
	}
	return l.reserveIn(ctx, req, a)
}

// detached returns a lease that was just made, or took more, as a value.
func (le *Lease) detached(like *DetachedLease) *DetachedLease {
	d := &DetachedLease{id: like.id, principal: like.principal, acquired: like.acquired, expires: like.expires}
	for _, part := range le.parts() {
		part.mu.Lock()
		g := part.expanded()
		entity, resource := part.decision.bucket()
		d.parts = append(d.parts, detachedPart{
			debits: g.debits, limits: g.limits, stored: part.stored, degraded: part.degraded, entity: entity, resource: resource,
		})
		part.mu.Unlock()
	}
	return d
}

// undoDebits returns the debits that give back what d took.
func (d *DetachedLease) undoDebits() []Debit {
	var debits []Debit
	for i := range d.parts {
		debits = append(debits, (&attempt{debits: d.parts[i].debits}).undoDebits()...)
	}
	return debits
}

// parts returns the leases of all parts of a request, the first of which is le.
func (le *Lease) parts() []*Lease {
	if many := le.many; many != nil {
		return many.leases
	}
	return []*Lease{le}
}

// ID returns the random id of the lease, 20 characters; empty if d is no lease.
func (d *DetachedLease) ID() string {
	if d == nil {
		return ""
	}
	return d.id
}

// Principal returns who acquired the lease: see DetachOptions.Principal.
func (d *DetachedLease) Principal() string {
	if d == nil {
		return ""
	}
	return d.principal
}

// Keys returns the buckets that the request named, without those of parents.
func (d *DetachedLease) Keys() []Key {
	if d == nil {
		return nil
	}
	keys := make([]Key, len(d.parts))
	for i := range d.parts {
		keys[i] = Key{d.parts[i].entity, d.parts[i].resource}
	}
	return keys
}

// Times returns when the lease was acquired, and until when it can be ended.
func (d *DetachedLease) Times() (acquired, expires time.Time) {
	if d == nil {
		return acquired, expires
	}
	return d.acquired, d.expires
}

// Hold returns the shortest hold of the slots that the lease took; 0 if it took none. See
// [Limiter.RenewDetached].
func (d *DetachedLease) Hold() time.Duration {
	if d == nil {
		return 0
	}
	var hold time.Duration
	for _, debit := range d.slots() {
		for i := range debit.Charges {
			if h := debit.Charges[i].Definition.Period; hold == 0 || h < hold {
				hold = h
			}
		}
	}
	return hold
}

// Decision returns how the limits stood just after the acquire. It is zero, which is a
// refusal, in a lease that comes from bytes.
func (d *DetachedLease) Decision() Decision {
	if d == nil {
		return Decision{}
	}
	return d.decision
}

// Delay returns how long AcquireDetached has waited in line.
func (d *DetachedLease) Delay() time.Duration {
	if d == nil {
		return 0
	}
	return d.delay
}

// Degraded reports whether the lease was given although the store was unavailable, so that
// nothing was charged and nothing will be.
func (d *DetachedLease) Degraded() bool {
	return d != nil && len(d.parts) > 0 && d.parts[0].degraded
}

// Repeated reports whether AcquireDetached or ConsumeDetached had given the lease before, by its
// idempotency key.
func (d *DetachedLease) Repeated() bool { return d != nil && d.repeated }

// errNoDetached is the error of a DetachedLease that nobody has given.
var errNoDetached = errors.New("is nil or the zero value: use one that AcquireDetached returned")
