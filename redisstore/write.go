package redisstore

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/coalesce"
	"github.com/zeroae/zael/internal/pause"
)

// A write is one operation on one or more buckets: all of it or none is applied.
type write struct {
	id    string
	parts []part
	only  [1]part    // the room of parts, if there is one
	once  *onceWrite // nil: it has no key

	shared bool // it is several operations, each of which may be made by itself
	refuse bool // a take that another bucket refuses: definitions that would admit sooner are stored
	maybe  bool // an answer was lost: it may have been applied

	before *record // the bucket before a take from one
}

var errLost = fmt.Errorf("the answer was lost, and whether it was applied cannot be told: %w", zael.ErrUnavailable)

// apply makes a write, in as many calls as it takes: one, if the buckets are as they were last
// seen or take.lua can do it. The outcome of a take is Applied, Refused or Stale, with the
// states in the charges if it is a refusal; parts then have the buckets as they are.
//
// When ctx is done no further call is made.
func (s *Store) apply(ctx context.Context, w *write) (coalesce.Outcome, error) {
	for i := range w.parts {
		p := &w.parts[i]
		seen := s.cache.last(p.key)
		p.known, p.latest, p.birth = seen.record, seen.latest, newGeneration()
		if p.texts = seen.texts; p.texts == nil {
			p.texts = newTexts(s.keys, p.key)
		}
	}
	fast := w.once == nil && !w.refuse
	for turn := 0; ; turn++ {
		if turn > 0 {
			s.stats.retried.Add(1)
			if ctx.Err() != nil {
				return coalesce.Failed, ctx.Err()
			}
			if turn >= maxTurns {
				s.stats.contended.Add(1)
				return coalesce.Failed, zael.ErrContention
			}
			// What an answer says of a bucket grows old by waiting: writers step back for a moment
			// now and then, and in between try at once.
			if turn%burstOfTurns == 0 && pause.Backoff(ctx, turn/burstOfTurns, raceBase, raceMost) != nil {
				return coalesce.Failed, ctx.Err()
			}
		}
		if fast {
			fast = false // what it does not do is decided here
			if done, err := s.applyRows(ctx, w); done || err != nil {
				return outcomeOf(err), err
			}
		}
		outcome, done, err := s.applyRecords(ctx, w)
		if done || err != nil {
			return outcome, err
		}
	}
}

func outcomeOf(err error) coalesce.Outcome {
	if err != nil {
		return coalesce.Failed
	}
	return coalesce.Applied
}

// gives reports whether the write gives anything back, so that it must not be applied twice.
func (w *write) gives() bool {
	for i := range w.parts {
		for j := range w.parts[i].charges {
			if w.parts[i].charges[j].Amount < 0 {
				return true
			}
		}
	}
	return false
}

// applyRows makes a write by take.lua, if it can. If it was not applied, its parts have the
// buckets as they are.
func (s *Store) applyRows(ctx context.Context, w *write) (done bool, err error) {
	stride := "2"
	if s.config.Usage {
		stride = "4"
	}
	call := newArguments()
	defer call.spare()
	call.add(w.id, "", stride)
	for i := range w.parts {
		p := &w.parts[i]
		var ok bool
		from := len(call.rows)
		if call.rows, ok = p.rowsOf(call.rows, s.limits); !ok {
			return false, nil
		}
		rows := call.rows[from:]
		expiry := expiryOfRows(rows, p.at)
		p.foresee(w, expiry)
		p.take(call, rows, expiry, s.usageOf(p))
	}
	call.finish()
	a, lost, err := s.run(ctx, takeScript, call.keys, call.args, func() {
		if w.gives() {
			call.args[1] = "1"
		}
	})
	w.maybe = w.maybe || lost
	if err != nil {
		return false, err
	}
	if a.hashes == nil {
		a.hashes = make([][]string, len(w.parts)) // all as they are known
	}
	if len(a.hashes) != len(w.parts) {
		return false, fmt.Errorf("redisstore: a script answers %d hashes for %d buckets: %w", len(a.hashes), len(w.parts), errDamaged)
	}
	for i := range w.parts {
		if err := w.parts[i].see(a.hashes[i]); err != nil {
			return false, err
		}
	}
	switch a.verdict {
	case unknown:
		return false, errLost
	case notApplied:
		return false, nil
	case appliedBefore:
		s.appliedBefore(w)
		return true, nil
	}
	return true, s.appliedRows(ctx, w, a.hashes)
}

// appliedRows notes the buckets of a write that take.lua has applied to them, whose hashes were
// these, or nil if they were as they were known.
func (s *Store) appliedRows(ctx context.Context, w *write, hashes [][]string) error {
	w.before = w.parts[0].known
	for i := range w.parts {
		p := &w.parts[i]
		if hashes[i] != nil {
			p.foresee(w, p.expiry)
		}
		if !p.fits {
			return fmt.Errorf("redisstore: the script applied a write that does not fit: %w", errDamaged)
		}
		if p.known == nil && p.next != nil {
			s.listResource(ctx, p.key.Resource)
		}
		p.known = p.next
		s.cache.observe(p.key, p.known, p.at, p.texts)
	}
	return nil
}

// see notes the hash in an answer, nil if it is as it was known.
func (p *part) see(hash []string) (err error) {
	p.fresh = true
	if hash != nil {
		p.known, err = readRecord(hash)
	}
	return err
}

// appliedBefore notes the buckets of a write that an earlier, lost answer was to tell of. If
// others have written since, receipts would own what is theirs.
func (s *Store) appliedBefore(w *write) {
	for i := range w.parts {
		p := &w.parts[i]
		s.cache.observe(p.key, p.known, p.at, p.texts)
		if p.known != nil && p.known.last() != w.id {
			shown := *p.known
			shown.Record = p.known.kept(p.holder, 0)
			for j := range shown.Limits {
				shown.Limits[j].State.Generation = 0 // no receipt fits it
			}
			p.known = &shown
		}
		for j := range p.charges {
			if c := &p.charges[j]; p.kind == coalesce.Take {
				took(c, p.known.owned(p.holder), p.at, nil, j)
			} else {
				c.State = coalesce.StateOf(p.known, c)
			}
		}
	}
}

// A decision is what package bucket makes of a write by the buckets as they are known.
type decision struct {
	outcome coalesce.Outcome
	err     error           // of Failed: the operation cannot be made
	kept    []bucket.Record // of each part
	changed []bool          // of each part: it is to be written
	counts  bool            // usage is to be counted
}

// decide returns what the buckets as they are known make of the write.
func (w *write) decide() (d decision) {
	d.kept, d.changed = make([]bucket.Record, len(w.parts)), make([]bool, len(w.parts))
	taken := bucket.Fits
	if w.refuse {
		taken = bucket.Exceeds
	}
	for i := range w.parts {
		if p := &w.parts[i]; p.kind == coalesce.Take && p.known.settingsRev() > p.settings {
			d.outcome = coalesce.Stale
			return d
		}
	}
	for i := range w.parts {
		var one bucket.Outcome
		if d.kept[i], one, d.err = w.parts[i].evaluate(); d.err != nil {
			d.outcome = coalesce.Failed
			return d
		}
		taken = max(taken, one)
	}
	switch {
	case taken == bucket.StaleLimits:
		d.outcome = coalesce.Stale
	case taken == bucket.Exceeds:
		d.outcome = coalesce.Refused
	case w.shared && w.redefines():
		d.outcome = coalesce.Split
	}
	if w.shared && d.outcome != coalesce.Applied {
		return d // each operation is decided by itself
	}
	for i := range w.parts {
		d.changed[i] = w.parts[i].finish(&d.kept[i], taken)
	}
	if len(w.parts) == 1 && w.parts[0].kind == extend && !w.parts[0].held {
		d.outcome = coalesce.Refused
	}
	d.counts = d.outcome == coalesce.Applied
	return d
}

// redefines reports whether the write would change a definition.
func (w *write) redefines() bool {
	return slices.ContainsFunc(w.parts, func(p part) bool { return p.kind == coalesce.Take && coalesce.Differs(p.known, p.charges) })
}

// applyRecords makes a write by write.lua, of records that package bucket has made. done is
// false if the buckets were not as they were known; now they are.
func (s *Store) applyRecords(ctx context.Context, w *write) (outcome coalesce.Outcome, done bool, err error) {
	d := w.decide()
	var call writeScript
	next := make([]*record, len(w.parts))
	for i := range w.parts {
		p := &w.parts[i]
		call.require(s.keys.bucket(p.key), idsField, p.known.last())
		if next[i] = p.known; d.changed[i] {
			next[i] = p.changes(&call, s.keys, &d.kept[i], w.id)
		}
		if d.counts {
			s.count(&call, p)
		}
	}
	if w.once != nil {
		if w.once.require(&call); d.outcome == coalesce.Applied {
			w.once.keep(&call, w)
		}
	}
	if len(call.commands) == 0 {
		if fresh, err := s.freshen(ctx, w); !fresh || err != nil {
			return coalesce.Failed, false, err
		}
		if w.once.decides() {
			return coalesce.Applied, true, w.once.failed
		}
		return d.outcome, true, d.err
	}
	args := call.args(w.id)
	a, lost, err := s.run(ctx, editScript, call.keys, args, func() {})
	w.maybe = w.maybe || lost
	if err != nil {
		return coalesce.Failed, false, err
	}
	if a.verdict == applied {
		if len(w.parts) > 0 { // a key alone has none
			w.before = w.parts[0].known
		}
		for i := range w.parts {
			if w.parts[i].known == nil && next[i] != nil {
				s.listResource(ctx, w.parts[i].key.Resource)
			}
			w.parts[i].known = next[i]
			s.cache.observe(w.parts[i].key, next[i], w.parts[i].at, w.parts[i].texts)
		}
		return d.outcome, true, nil
	}
	if len(a.hashes) < len(w.parts) {
		return coalesce.Failed, false, fmt.Errorf("redisstore: a script answers %d hashes for %d buckets: %w", len(a.hashes), len(w.parts), errDamaged)
	}
	for i := range w.parts {
		p := &w.parts[i]
		before := p.known.last()
		if err := p.see(a.hashes[i]); err != nil {
			return coalesce.Failed, false, err
		}
		if a.verdict == notApplied && w.maybe && (w.gives() || p.holder != "") && !p.known.follows(before) {
			return coalesce.Failed, false, errLost
		}
	}
	if a.verdict == appliedBefore {
		s.appliedBefore(w)
		return d.outcome, true, nil
	}
	if w.once != nil {
		if decided, err := w.once.see(a.hashes[len(w.parts):]); decided || err != nil {
			return coalesce.Applied, true, cmp.Or(err, w.once.failed)
		}
	}
	return coalesce.Failed, false, nil
}

// follows reports whether the bucket has the id of a write among its last ones, so that
// whether another one has come since can be told.
func (r *record) follows(id string) bool {
	if r == nil || id == "" {
		return r == nil && id == ""
	}
	for i := 0; i+idLength <= len(r.ids); i += idLength {
		if r.ids[i:i+idLength] == id {
			return true
		}
	}
	return false
}

// freshen reads the buckets and once-keys that are not known by an answer to this write. It
// reports whether there were none, or a once-key decides.
func (s *Store) freshen(ctx context.Context, w *write) (fresh bool, err error) {
	var keys []string
	var parts []*part
	for i := range w.parts {
		if p := &w.parts[i]; !p.fresh {
			keys, parts = append(keys, s.keys.bucket(p.key)), append(parts, p)
		}
	}
	buckets := len(keys)
	if w.once != nil && !w.once.fresh {
		keys = append(keys, w.once.names()...)
	}
	if len(keys) == 0 {
		for i := range w.parts {
			s.cache.observe(w.parts[i].key, w.parts[i].known, w.parts[i].at, w.parts[i].texts)
		}
		return true, nil
	}
	hashes, err := s.readHashes(ctx, "reading a bucket", keys)
	if err != nil {
		return false, err
	}
	for i, p := range parts {
		if err := p.see(hashes[i]); err != nil {
			return false, err
		}
	}
	if w.once != nil && !w.once.fresh {
		return w.once.see(hashes[buckets:])
	}
	return false, nil
}
