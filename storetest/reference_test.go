package storetest_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// reference is a store as naive as it can be: one lock, maps, package bucket.
// It is good; the broken ones are made of it by replacing steps or methods.
type reference struct {
	steps

	mu       sync.Mutex
	births   uint64
	latest   bucket.Instant // that was ever seen
	noted    time.Time      // the latest instant of Take and Adjust
	swept    bucket.Instant // what was forgotten was full then
	buckets  map[zael.Key]*record
	usage    map[usageKey]zael.UsageRecord
	entities map[string]zael.Entity
	limits   map[zael.Scope]zael.LimitSet
	events   []zael.AuditEvent
	admin    admin
	kinds    kinds
	onces    onces
}

// A record is one bucket.
type record struct {
	limits map[string]bucket.State
	seen   bucket.Instant
}

// steps are the parts that broken stores replace.
type steps struct {
	key     func(zael.Key) zael.Key
	limit   func(name string) string
	instant func(s *reference, now bucket.Instant) bucket.Instant
	birth   func(s *reference) uint64
	convert func(r *record, at bucket.Instant) bucket.Instant // when a definition changes
	under   func(s bucket.State, d bucket.Definition, at bucket.Instant, birth uint64) bucket.State
	stale   func(s bucket.State, d bucket.Definition) bool
	take    func(s bucket.State, at bucket.Instant, n int64, ahead time.Duration) (bucket.State, bool)
	keeps   func(old, under bucket.State, at bucket.Instant, n int64) bool
	charge  func(s bucket.State, at bucket.Instant, n int64) (bucket.State, error)
	give    func(s bucket.State, at bucket.Instant, n int64, r bucket.Receipt) bucket.State
	given   func(r *record, at bucket.Instant) bucket.Instant // the instant by which a give counts
	forget  func(s *reference, r *record, at bucket.Instant)  // limits of a bucket that was taken from
	after   func(s *reference, at bucket.Instant)             // a change
	read    func(all []zael.LimitState) []zael.LimitState
}

func goodSteps() steps {
	return steps{
		key:     func(k zael.Key) zael.Key { return k },
		limit:   func(name string) string { return name },
		instant: func(_ *reference, now bucket.Instant) bucket.Instant { return now },
		birth:   func(s *reference) uint64 { s.births += 1 << 32; return s.births },
		convert: func(r *record, at bucket.Instant) bucket.Instant { return max(at, r.seen) },
		under:   bucket.State.Redefine,
		stale:   bucket.State.Stale,
		take:    bucket.State.Take,
		keeps: func(old, under bucket.State, at bucket.Instant, n int64) bool {
			return under.Wait(at, n) < old.Wait(at, n)
		},
		charge: bucket.State.Charge,
		give:   bucket.State.Give,
		given:  func(r *record, at bucket.Instant) bucket.Instant { return max(at, r.seen) },
		forget: func(s *reference, r *record, at bucket.Instant) {
			if s.forgetLimits(r, func(state bucket.State) bool { return state.Forgettable(at - idle) }) {
				s.swept = max(s.swept, at-idle)
			}
		},
		after: func(*reference, bucket.Instant) {},
		read:  func(all []zael.LimitState) []zael.LimitState { return all },
	}
}

func newReference() *reference {
	return &reference{
		steps: goodSteps(), latest: -bucket.MaxInstant, swept: -bucket.MaxInstant,
		buckets: map[zael.Key]*record{}, usage: map[usageKey]zael.UsageRecord{},
		entities: map[string]zael.Entity{}, limits: map[zael.Scope]zael.LimitSet{}, admin: newAdmin(), kinds: newKinds(), onces: newOnces(),
	}
}

func (s *reference) at(now time.Time) (bucket.Instant, error) {
	at, err := bucket.At(now)
	if err != nil {
		return 0, &zael.ValidationError{Field: "now", Reason: err.Error()}
	}
	s.latest = max(s.latest, at)
	return s.instant(s, at), nil
}

// countAll counts debits that were made.
func (s *reference) countAll(at bucket.Instant, debits []zael.Debit, events int64) {
	for _, d := range debits {
		s.count(at, d, events)
	}
}

// note notes the instant of a Take or Adjust.
func (s *reference) note(now time.Time) {
	if now.After(s.noted) {
		s.noted = now
	}
}

func (s *reference) LatestInstant() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.noted
}

// record is a bucket; one that is not kept yet if there is none.
func (s *reference) record(k zael.Key) *record {
	if r := s.buckets[s.key(k)]; r != nil {
		return r
	}
	return &record{limits: map[string]bucket.State{}, seen: -bucket.MaxInstant}
}

// idle is how long a limit must have been full to be forgotten.
const idle = bucket.Instant(time.Second)

// forgetLimits drops limits of a bucket, and reports whether there were any.
func (s *reference) forgetLimits(r *record, is func(bucket.State) bool) bool {
	before := len(r.limits)
	maps.DeleteFunc(r.limits, func(_ string, state bucket.State) bool { return is(state) })
	return len(r.limits) < before
}

func (s *reference) keep(k zael.Key, r *record, at bucket.Instant) {
	s.buckets[s.key(k)] = r
	r.seen = max(r.seen, at)
}

// brought is a limit of a bucket under a definition. What was forgotten is as
// full as it was then.
func (s *reference) brought(r *record, c zael.Charge, at bucket.Instant) bucket.State {
	old := r.limits[s.limit(c.Name)]
	if old.Absent() {
		state := s.under(old, c.Definition, at, s.birth(s))
		state.Mark = max(state.Mark, c.Definition.Drip(max(at, s.swept)))
		return state
	}
	return s.under(old, c.Definition, s.convert(r, at), 0)
}

func (s *reference) Take(ctx context.Context, now time.Time, maxWait time.Duration, debits []zael.Debit) (time.Time, error) {
	if err := ctx.Err(); err != nil {
		return now, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at, err := s.at(now)
	if err != nil {
		return now, err
	}
	s.note(now)
	if s.staleSettings(debits) {
		return at.Time(), zael.ErrStaleSettings
	}
	if s.kinds.have(debits) {
		err := s.kinds.take(at, maxWait, s.birth(s), debits)
		if err == nil {
			s.countAll(at, debits, 1)
		}
		return at.Time(), err
	}
	for _, d := range debits {
		r := s.record(d.Key)
		for _, c := range d.Charges {
			if d.Bypass {
				continue
			}
			if c.Amount < 0 {
				return now, &zael.ValidationError{Field: "amount", Value: c.Amount, Reason: "is negative"}
			}
			if s.stale(r.limits[s.limit(c.Name)], c.Definition) {
				s.showKept(debits)
				return at.Time(), zael.ErrStaleLimits
			}
		}
	}
	fits := true
	for _, d := range debits {
		r := s.record(d.Key)
		for i := range d.Charges {
			c := &d.Charges[i]
			c.State = s.brought(r, *c, at)
			if d.Bypass {
				c.Receipt = c.State.Receipt()
				continue
			}
			_, ok := s.take(c.State, at, c.Amount, maxWait)
			fits = fits && ok
		}
	}
	if !fits {
		s.refuse(at, debits)
		return at.Time(), zael.ErrExceeded
	}
	for _, d := range debits {
		r := s.record(d.Key)
		if d.Bypass {
			s.count(at, d, 1)
			continue
		}
		for i := range d.Charges {
			c := &d.Charges[i]
			c.State, _ = s.take(c.State, at, c.Amount, maxWait)
			c.Receipt = c.State.Receipt()
			r.limits[s.limit(c.Name)] = c.State
		}
		s.keep(d.Key, r, at)
		s.count(at, d, 1)
		s.forget(s, r, at)
	}
	s.after(s, at)
	return at.Time(), nil
}

// showKept writes the states as they are kept into the debits.
func (s *reference) showKept(debits []zael.Debit) {
	for _, d := range debits {
		r := s.record(d.Key)
		for i := range d.Charges {
			d.Charges[i].State = r.limits[s.limit(d.Charges[i].Name)]
		}
	}
}

// refuse keeps the definitions that would admit sooner.
func (s *reference) refuse(at bucket.Instant, debits []zael.Debit) {
	for _, d := range debits {
		r := s.record(d.Key)
		for _, c := range d.Charges {
			if d.Bypass {
				continue
			}
			name := s.limit(c.Name)
			if old := r.limits[name]; !old.Absent() && old.Definition != c.Definition && s.keeps(old, c.State, at, c.Amount) {
				r.limits[name] = c.State
			}
		}
	}
}

func (s *reference) Adjust(ctx context.Context, now time.Time, debits []zael.Debit) (time.Time, error) {
	if err := ctx.Err(); err != nil {
		return now, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at, err := s.at(now)
	if err != nil {
		return now, err
	}
	s.note(now)
	if s.kinds.have(debits) {
		err := s.kinds.adjust(at, s.birth(s), debits)
		if err == nil {
			s.countAll(at, debits, 0)
		}
		return at.Time(), err
	}
	changed := make([]*record, len(debits))
	for i, d := range debits {
		old := s.record(d.Key)
		r := &record{limits: maps.Clone(old.limits), seen: old.seen}
		changed[i] = r
		for j := range d.Charges {
			if d.Bypass {
				break
			}
			if err := s.adjustOne(r, &d.Charges[j], at); err != nil {
				return now, &zael.ValidationError{Field: "amount", Value: d.Charges[j].Amount, Reason: err.Error()}
			}
		}
	}
	for i, d := range debits {
		if len(changed[i].limits) > 0 && !d.Bypass {
			s.keep(d.Key, changed[i], at)
		}
		s.count(at, d, 0)
	}
	s.after(s, at)
	return at.Time(), nil
}

func (s *reference) adjustOne(r *record, c *zael.Charge, at bucket.Instant) error {
	name := s.limit(c.Name)
	state := r.limits[name]
	switch {
	case c.Amount < 0:
		state = s.give(state, s.given(r, at), -c.Amount, c.Receipt)
	case c.Amount > 0 || !state.Absent():
		if !s.stale(state, c.Definition) {
			state = s.brought(r, *c, at)
		}
		var err error
		if state, err = s.charge(state, at, c.Amount); err != nil {
			return err
		}
	}
	if c.State = state; !state.Absent() {
		r.limits[name] = state
	}
	return nil
}

func (s *reference) Buckets(ctx context.Context, now time.Time, keys []zael.Key) (time.Time, []zael.Bucket, error) {
	if err := ctx.Err(); err != nil {
		return now, nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at, err := s.at(now)
	if err != nil {
		return now, nil, err
	}
	var all []zael.Bucket
	for _, k := range keys {
		if r := s.kinds.records[k]; r != nil {
			limits := r.View(at)
			slices.SortFunc(limits, func(a, b zael.LimitState) int { return strings.Compare(a.Name, b.Name) })
			all = append(all, zael.Bucket{Key: k, Limits: limits})
			continue
		}
		all = append(all, s.bucket(k))
	}
	return at.Time(), all, nil
}

func (s *reference) bucket(k zael.Key) zael.Bucket {
	var all []zael.LimitState
	for name, state := range s.record(k).limits {
		all = append(all, zael.LimitState{Name: name, State: state})
	}
	slices.SortFunc(all, func(a, b zael.LimitState) int { return strings.Compare(a.Name, b.Name) })
	return zael.Bucket{Key: k, Limits: s.read(all)}
}

// TakeLocal answers every other call.
func (s *reference) TakeLocal(now time.Time, maxWait time.Duration, debits []zael.Debit) (time.Time, bool, error) {
	if !s.answers() {
		return now, false, nil
	}
	at, err := s.Take(context.Background(), now, maxWait, debits)
	return at, true, err
}

// AdjustLocal answers every other call.
func (s *reference) AdjustLocal(now time.Time, debits []zael.Debit) (time.Time, bool, error) {
	if !s.answers() {
		return now, false, nil
	}
	at, err := s.Adjust(context.Background(), now, debits)
	return at, true, err
}

func (s *reference) answers() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.births++
	return s.births%2 == 0
}
