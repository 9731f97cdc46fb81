package redisstore

import (
	"slices"
	"strconv"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/coalesce"
	"github.com/zeroae/zael/internal/storearg"
)

// A part is what a write does to one bucket.
type part struct {
	key      zael.Key
	kind     coalesce.Kind
	charges  []zael.Charge // of this write alone
	at       bucket.Instant
	maxWait  time.Duration
	stages   [][]coalesce.Stage // instead of maxWait: see coalesce.Batch
	settings int64
	holder   string
	events   int64
	bypass   bool
	batch    *coalesce.Batch // that the part is; nil: it is one operation
	undoes   []bucket.Count  // of an undo: see coalesce.Batch.Overdrawn

	texts  *texts
	birth  uint64         // of limits that are new
	known  *record        // the bucket as last seen; after the write as that has left it
	fresh  bool           // known is of an answer to this write
	latest bucket.Instant // the latest known of the bucket

	fits   bool    // see foresee
	next   *record // the bucket after the write, if that fits
	expiry int64   // the quarter of an hour by which it is full after a write by rows

	held     bool           // of an extend
	deadline bucket.Instant // of an extend
}

// extend is bucket.Record.Extend. No coalescer has it.
const extend = coalesce.Kind(255)

const (
	quarter = bucket.Instant(15 * time.Minute) // in steps of which buckets expire
	margin  = bucket.Instant(time.Hour)        // by which clocks may be behind

	// fewLimits is how many limits of a bucket are not searched for those that can be
	// forgotten.
	fewLimits = 8
)

// forgets reports whether the write is to forget limits that nobody has used for long: half of
// many.
func (p *part) forgets() bool {
	if len(p.known.Limits) < fewLimits {
		return false
	}
	n := 0
	for i := range p.known.Limits {
		if p.known.Limits[i].State.Forgettable(p.at - margin) {
			n++
		}
	}
	return n >= len(p.known.Limits)/2
}

// evaluate returns what the operation does to the bucket as it is known, and the record
// after it, which is complete once the outcome of all parts is known: see finish. The error is
// of an adjust that cannot be made.
func (p *part) evaluate() (kept bucket.Record, outcome bucket.Outcome, err error) {
	kept = p.known.kept(p.holder, p.latest)
	switch {
	case p.bypass:
	case p.kind == coalesce.Take:
		ahead := p.maxWait
		for _, stages := range p.stages {
			for _, s := range stages {
				ahead = max(ahead, s.Wait)
			}
		}
		outcome = kept.Take(p.charges, p.at, ahead, p.birth)
	case p.kind == coalesce.Adjust || p.kind == coalesce.Undo:
		if bad, err := kept.Adjust(p.charges, p.at, p.birth); err != nil {
			return kept, 0, storearg.Invalid("amount of "+p.charges[bad].Name, p.charges[bad].Amount, err.Error())
		}
	}
	return kept, outcome, nil
}

// finish completes the record with the outcome of all parts, and reports whether it has
// changed.
func (p *part) finish(kept *bucket.Record, outcome bucket.Outcome) (changed bool) {
	switch {
	case p.bypass:
		kept.Pass(p.charges, p.at)
		return false
	case p.kind == extend:
		p.deadline, p.held = kept.Extend(p.charges, p.at)
		return p.held
	}
	if outcome == bucket.Fits && p.known != nil && p.forgets() && kept.Forget(p.at-margin, p.charges) > 0 {
		changed = true
	}
	return kept.Finish(outcome, p.charges, p.at) || changed
}

// expiryOf returns the quarter of an hour by which limits and holders are idle, with a margin.
func expiryOf(limits []bucket.LimitState, holders []bucket.Holder, at bucket.Instant) int64 {
	idle := at
	for i := range limits {
		idle = max(idle, at.Add(limits[i].State.WaitIdle(at)))
	}
	for i := range holders {
		idle = max(idle, holders[i].Deadline)
	}
	return expiryAfter(idle)
}

func expiryAfter(idle bucket.Instant) int64 { return int64((idle+margin)/quarter) + 1 }

// keepFor returns for how many milliseconds from an instant a bucket is kept that expires in a
// quarter of an hour.
func keepFor(expiry int64, at bucket.Instant) int64 {
	return max(int64(margin), expiry*int64(quarter)-int64(at)) / int64(time.Millisecond)
}

// expiryOfRows returns by when a bucket that rows are applied to is idle.
func expiryOfRows(rows []row, at bucket.Instant) int64 {
	idle := at
	for i := range rows {
		idle = max(idle, at.Add(rows[i].last.WaitIdle(at)))
	}
	return expiryAfter(idle)
}

// foresee sets what a write by rows makes of the bucket if that is as it is known, and whether it
// fits then. What the bucket gets has expired by a quarter of an hour.
func (p *part) foresee(w *write, expiry int64) {
	p.next, p.fits, p.expiry = p.known, false, expiry
	if p.kind == coalesce.Take && p.known.settingsRev() > p.settings {
		return
	}
	kept, outcome, err := p.evaluate()
	if outcome != bucket.Fits || err != nil || w.shared && p.kind == coalesce.Take && coalesce.Differs(p.known, p.charges) {
		return
	}
	p.fits = true
	if p.finish(&kept, bucket.Fits) && p.known.changes(kept.Limits) {
		p.next = p.known.followed(&kept, w.id, expiry)
	}
}

// changes reports whether limits differ from those of the record.
func (r *record) changes(limits []bucket.LimitState) bool {
	return slices.ContainsFunc(limits, func(l bucket.LimitState) bool {
		definition, mark, used := differs(&l, r.find(l.Name, l.State.Definition.Kind == bucket.Slots))
		return definition || mark || used
	})
}

// take appends a part as take.lua reads it.
func (p *part) take(s *arguments, rows []row, expiry int64, usage *usage) {
	s.keys = append(s.keys, p.texts.hash, p.texts.index)
	s.add(p.known.last())
	changes := p.fits && p.next != p.known
	longer := changes && (p.known == nil || expiry > p.known.expiry)
	words := len(s.args)
	s.add("-1", "")
	if longer {
		s.args[words+1] = "1"
	}
	s.list(4 + 9*len(rows))
	s.packNumber(p.settings)
	s.packNumber(expiry)
	s.packNumber(keepFor(expiry, p.at))
	s.pack(p.texts.resource)
	for i := range rows {
		rows[i].pack(s)
	}
	s.listed()
	s.number(int64(len(usage.counts)))
	from := len(s.args)
	if changes {
		p.appendWords(s, longer)
	}
	if p.fits {
		s.setNumber(words, int64(len(s.args)-from))
	}
	if usage.keys != nil {
		s.keys = append(s.keys, usage.keys...)
		for _, c := range usage.counts {
			s.add(c.field)
			s.number(c.n)
		}
		s.number(usage.keep)
	}
}

// appendWords appends the fields that bring the hash from the record that is known to the next.
func (p *part) appendWords(s *arguments, longer bool) {
	s.add(idsField, p.next.ids)
	if longer {
		s.add(expiryField)
		s.number(p.next.expiry)
	}
	for i := range p.next.Limits {
		l := &p.next.Limits[i]
		old := p.known.find(l.Name, l.State.Definition.Kind == bucket.Slots)
		definition, mark, used := differs(l, old)
		if !definition && !mark && !used {
			continue
		}
		t := p.texts.named(l)
		if definition {
			s.add(t.define, definitionText(&l.State.Definition, l.State.Generation))
		}
		if mark {
			s.add(t.mark)
			s.number(l.State.Mark)
		}
		if used {
			s.add(t.used)
			s.number(l.State.Used)
		}
	}
}

// changes returns the commands that bring the hash of a part from the record that is known to
// one that is kept, and the record then.
func (p *part) changes(w *writeScript, k keys, kept *bucket.Record, id string) *record {
	old := p.known
	expiry := expiryOf(kept.Limits, kept.Holders, p.at)
	next := old.followed(kept, id, expiry)
	set := []string{idsField, next.ids}
	var gone []string
	if old == nil || expiry > old.expiry {
		set = append(set, expiryField, strconv.FormatInt(expiry, 10))
	}
	if kept.Forgotten != 0 && (old == nil || kept.Forgotten != old.Forgotten) {
		set = append(set, forgottenField, strconv.FormatInt(int64(kept.Forgotten), 10))
	}
	for i := range kept.Limits {
		l := &kept.Limits[i]
		set = limitFields(set, l, old.find(l.Name, l.State.Definition.Kind == bucket.Slots))
	}
	if old != nil {
		for i := range old.Limits {
			l := &old.Limits[i]
			if slots := l.State.Definition.Kind == bucket.Slots; next.find(l.Name, slots) == nil {
				gone = append(gone, fieldOf(definitionField, l.Name, slots), fieldOf(markField, l.Name, slots), fieldOf(usedField, l.Name, slots))
			}
		}
		gone = goneHolders(gone, old.Holders, kept.Holders)
	}
	set = holderFields(set, kept.Holders, old)
	key := w.key(k.bucket(p.key))
	w.commands = slices.Grow(w.commands, len(set)+len(gone))
	for words := range slices.Chunk(set, mostWords) {
		w.command("HSET", key, words...)
	}
	for words := range slices.Chunk(gone, mostWords) {
		w.command("HDEL", key, words...)
	}
	if old == nil || expiry > old.expiry {
		keep := strconv.FormatInt(keepFor(expiry, p.at), 10)
		w.command("KEEP", key, w.key(k.index(p.key.Entity)), keep, escape(p.key.Resource))
	}
	return next
}

func fieldOf(letter byte, name string, slots bool) string {
	if slots {
		letter -= upper
	}
	return string(letter) + name
}

// differs reports which fields of a limit differ from those before; old is nil if there were none.
func differs(l *bucket.LimitState, old *bucket.State) (definition, mark, used bool) {
	s := &l.State
	kept := s.Definition.Kind != bucket.Rate
	if old == nil {
		return true, true, s.Used != 0 || kept
	}
	return old.Definition != s.Definition || old.Generation != s.Generation, old.Mark != s.Mark,
		old.Used != s.Used || kept && old.Definition.Kind == bucket.Rate
}

// mostWords is how many words a command of write.lua has, which gives them to the server as
// arguments of a function: Lua has room for 8000. It is even, as fields go with their values.
const mostWords = 1000

// holderFields appends the fields of holders that differ from those before. There may be
// thousands: each detached lease is one.
func holderFields(set []string, holders []bucket.Holder, old *record) []string {
	var before map[string]*bucket.Holder
	if old != nil {
		before = make(map[string]*bucket.Holder, len(old.Holders))
		for i := range old.Holders {
			before[old.Holders[i].ID] = &old.Holders[i]
		}
	}
	for i := range holders {
		h := &holders[i]
		if b := before[h.ID]; b == nil || b.Deadline != h.Deadline || b.Generation != h.Generation || !slices.Equal(b.Counts, h.Counts) {
			set = append(set, string(holderField)+h.ID, holderText(h))
		}
	}
	return set
}

// goneHolders appends the fields of holders that are no more.
func goneHolders(gone []string, old, kept []bucket.Holder) []string {
	if len(old) == 0 {
		return gone
	}
	left := make(map[string]bool, len(kept))
	for i := range kept {
		left[kept[i].ID] = true
	}
	for i := range old {
		if !left[old[i].ID] {
			gone = append(gone, string(holderField)+old[i].ID)
		}
	}
	return gone
}

// limitFields appends the fields of a limit that differ from those before; old is nil if there
// were none.
func limitFields(set []string, l *bucket.LimitState, old *bucket.State) []string {
	s, slots := &l.State, l.State.Definition.Kind == bucket.Slots
	definition, mark, used := differs(l, old)
	if definition {
		set = append(set, fieldOf(definitionField, l.Name, slots), definitionText(&s.Definition, s.Generation))
	}
	if mark {
		set = append(set, fieldOf(markField, l.Name, slots), strconv.FormatInt(s.Mark, 10))
	}
	if used {
		set = append(set, fieldOf(usedField, l.Name, slots), strconv.FormatInt(s.Used, 10))
	}
	return set
}
