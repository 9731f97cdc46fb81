package memstore

import (
	"math"
	"math/rand/v2"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// inPlace reports whether a limit of a record can be changed in place by n tokens. Slots can
// if this process is the only one that has any; by 0 if there is room, and even if nobody
// has had any.
func (r *record) inPlace(e *entry, l *bucket.Limit, n int64) bool {
	switch {
	case l.Definition.Kind != bucket.Slots:
		return e != nil
	case n != 0:
		holders := r.holders()
		return e != nil && l.Definition.Flags == 0 && (len(holders) == 0 || len(holders) == 1 && holders[0].ID == "")
	default:
		return e != nil && *r.used(e.limit) <= l.Definition.Burst || e == nil && len(r.holders()) == 0
	}
}

// values returns the mark of a limit, which of slots is the instant of the call, and what
// is used of it. e is nil for slots that nobody has.
func (r *record) values(e *entry, at bucket.Instant) (mark, used int64) {
	switch {
	case e == nil:
		return int64(at), 0
	case e.limit.plain:
		return e.mark, 0
	case e.limit.slots():
		return int64(at), *r.used(e.limit)
	default:
		return e.mark, *r.used(e.limit)
	}
}

// setValues writes them.
func (r *record) setValues(e *entry, mark, used int64) {
	if e != nil && e.limit.plain {
		e.mark = mark
	} else if e != nil && !e.limit.slots() {
		e.mark = mark
		*r.used(e.limit) = used
	}
}

// hold has this process hold n slots more of a limit. It returns the generation. The holder stays
// when it has none, so that the next take finds it.
func (r *record) hold(e *entry, n int64) (generation uint64) {
	if len(r.holders()) == 0 {
		r.setHolders([]bucket.Holder{{Deadline: math.MinInt64, Generation: rand.Uint64()}})
	}
	own := &r.rare.holders[0]
	i := countOf(own, e)
	if i < 0 {
		i = len(own.Counts)
		own.Counts = append(own.Counts, bucket.Count{Name: e.limit.name})
	}
	own.Counts[i].N += n
	r.setHeld(e, own.Counts[i].N)
	return own.Generation
}

// release gives back n slots of this process, if it has them in a generation.
func (r *record) release(e *entry, n int64, generation uint64) {
	if len(r.holders()) == 0 || r.rare.holders[0].Generation != generation {
		return
	}
	own := &r.rare.holders[0]
	if i := countOf(own, e); i >= 0 {
		own.Counts[i].N -= min(n, own.Counts[i].N)
		r.setHeld(e, own.Counts[i].N)
	}
}

// countOf returns the index of a limit in the counts of a holder, or -1.
func countOf(h *bucket.Holder, e *entry) int {
	for i := range h.Counts {
		if h.Counts[i].Name == e.limit.name {
			return i
		}
	}
	return -1
}

// setHeld writes how many slots are held, all by this process.
func (r *record) setHeld(e *entry, n int64) {
	*r.used(e.limit) = n
	if e.mark = int64(bucket.MaxInstant); n == 0 {
		e.mark = math.MinInt64
	}
}

// TakeValues implements zael.ValueStore. A store that counts usage answers no call.
func (s *Store) TakeValues(at bucket.Instant, entity string, p *zael.PolicyLimits, amounts [fewLimits]int64) (
	v zael.Values, outcome bucket.Outcome, ok bool,
) {
	if s.usage != nil || len(p.Limits) > fewLimits || s.settings.latest.Load() != 0 {
		return v, outcome, false
	}
	s.noteCall(at)
	key := zael.Key{Entity: entity, Resource: p.Resource}
	h, index := s.hash(key) // as lockRecord, a call less
	sh := &s.shards[index]
	sh.mu.Lock()
	r := sh.table.find(h, key)
	if r == nil {
		sh.mu.Unlock()
		return v, outcome, false
	}
	ok = true
	var entries [fewLimits]*entry
	for i := range p.Limits {
		l, fits := &p.Limits[i], false
		e := r.place(i)
		if e == nil || e.limit == nil || e.limit.seen != l { // else it is the one of the call before
			e = r.findLimit(i, l)
		}
		if e != nil && e.limit.plain {
			v.Marks[i], fits = bucket.TakePlain(&l.Definition, e.mark, at, amounts[i], 0)
		} else if ok = r.inPlace(e, l, amounts[i]); ok {
			mark, used := r.values(e, at)
			v.Marks[i], v.Used[i], fits = bucket.Take(&l.Definition, mark, used, at, amounts[i], 0)
		}
		if !ok {
			break
		}
		if !fits {
			outcome = bucket.Exceeds
		}
		if entries[i] = e; e != nil {
			v.Generations[i] = e.generation
		}
	}
	switch {
	case !ok:
	case outcome == bucket.Fits:
		for i := range p.Limits {
			if e := entries[i]; amounts[i] > 0 && e.limit.slots() {
				v.Generations[i] = r.hold(e, amounts[i])
			} else {
				r.setValues(e, v.Marks[i], v.Used[i])
			}
		}
		r.latest = bucket.Latest(r.latest, at)
	case r.latest > at: // by a later instant it may fit: the Limiter sees to its clock
		ok = false
	default:
		for i := range p.Limits {
			if e := entries[i]; e != nil && e.limit.plain {
				v.Marks[i] = e.mark
			} else {
				v.Marks[i], v.Used[i] = r.values(e, at)
			}
			if l := &p.Limits[i]; l.Definition.Kind == bucket.Slots && v.Used[i] > l.Definition.Burst-amounts[i] {
				v.Marks[i] = int64(at.Add(l.Definition.Period))
			}
		}
	}
	if !ok {
		sh.mu.Unlock()
		return v, outcome, false
	}
	s.leave(sh, r, at)
	return v, outcome, true
}

// AdjustValues implements zael.ValueStore.
func (s *Store) AdjustValues(at bucket.Instant, entity string, p *zael.PolicyLimits, amounts [fewLimits]int64, v zael.Values) (ok bool) {
	if s.usage != nil || len(p.Limits) > fewLimits {
		return false
	}
	s.noteCall(at)
	sh, r := s.lockRecord(zael.Key{Entity: entity, Resource: p.Resource})
	if r == nil {
		return false
	}
	if ok = r.adjust(at, p.Limits, &amounts, &v); ok {
		s.leave(sh, r, at)
	} else {
		sh.mu.Unlock()
	}
	return ok
}

// adjust is AdjustValues with the shard locked.
func (r *record) adjust(at bucket.Instant, limits []bucket.Limit, amounts *[fewLimits]int64, v *zael.Values) (ok bool) {
	latest := bucket.Latest(r.latest, at)
	var entries [fewLimits]*entry
	for i := range limits {
		l, n := &limits[i], amounts[i]
		e := r.findLimit(i, l)
		if !r.inPlace(e, l, n) {
			return false
		}
		if n == 0 {
			continue
		}
		if entries[i] = e; e.limit.slots() {
			if n > 0 {
				return false // an error
			}
			continue
		}
		receipt := bucket.Receipt{Mark: v.Marks[i], Generation: v.Generations[i]}
		mark, used := r.values(e, at)
		s := bucket.State{Definition: l.Definition, Mark: mark, Used: used, Generation: e.generation}
		if bucket.Adjust(&s, &l.Definition, at, latest, n, receipt) != nil {
			return false
		}
		v.Marks[i], v.Used[i] = s.Mark, s.Used
	}
	for i := range limits {
		if e := entries[i]; e != nil && e.limit.slots() {
			r.release(e, -amounts[i], v.Generations[i])
		} else {
			r.setValues(e, v.Marks[i], v.Used[i])
		}
	}
	r.latest = latest
	return true
}

// leave ends a call about a record whose shard is locked.
func (s *Store) leave(sh *shard, r *record, at bucket.Instant) {
	if r.latest > at {
		s.noteInstant(r.latest)
	}
	owed := sh.owedSlots(0, r, at)
	sh.mu.Unlock()
	if owed > 0 {
		s.sweep(owed, at)
	}
}
