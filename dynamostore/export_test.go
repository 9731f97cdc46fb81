package dynamostore

import (
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/coalesce"
)

// What the tests look at of the inside.

type (
	Op      = op
	Record  = record
	Verdict = verdict
	Kind    = kind
	Cache   = cache
	Clock   = clock
)

const (
	Takes, Adjusts, Undoes, Keeps      = takes, adjusts, undoes, keeps
	Send, Read, Applied, Nothing       = send, read, applied, nothing
	Refused, Stale, Outside, Contended = refused, stale, outside, contended
	Apart                              = apart
	MaxCalls, MaxLimits                = maxCalls, maxLimits
	MostNamed, MostForgets             = mostNamed, mostForgets
	Longest                            = longest
)

func NewOp(k Kind, key zael.Key, charges []zael.Charge, at, seen bucket.Instant, maxWait time.Duration, id uint64) *Op {
	o := &op{kind: k, key: key, charges: charges, at: at, seen: max(at, seen), maxWait: maxWait, id: id, index: "R#r#0"}
	if k == takes {
		o.events = 1
	}
	return o
}

// Several makes it one for several callers.
func (o *op) Several(stages [][]coalesce.Stage, events int64) {
	o.stages, o.events, o.several = stages, events, true
}

func (o *op) Events() int64 { return o.events }

// For undoes: the op that takes o back.
func (o *op) Undo(id uint64) *Op {
	u := *o
	u.kind, u.id, u.calls, u.unsure, u.birth, u.charges, u.events = undoes, id, 0, false, o.known.birth, nil, -o.events
	u.stages, u.several = nil, false
	for _, c := range o.charges {
		if c.Amount > 0 {
			c.Receipt, c.Amount = o.known.state(c.Name).Receipt(), -c.Amount
			u.charges = append(u.charges, c)
		}
	}
	return &u
}

func (o *op) Keep(id uint64) *Op {
	k := *o
	k.kind, k.id, k.calls, k.unsure, k.events = keeps, id, 0, false, 0
	k.stages, k.several = nil, false
	return &k
}

func (o *op) Knows(r *Record)                  { o.known, o.fresh = r, false }
func (o *op) Known() *Record                   { return o.known }
func (o *op) Learn(r *Record)                  { o.calls++; o.learn(r) }
func (o *op) Plan() (write, Verdict, error)    { return o.plan() }
func (o *op) Answered(r *Record, ok bool) bool { return o.answered(r, ok) }
func (o *op) Lost()                            { o.unsure = true }
func (o *op) Unsure() bool                     { return o.unsure }
func (o *op) Repeats() bool                    { return o.repeats() }
func (o *op) ID() uint64                       { return o.id }
func (o *op) Kind() Kind                       { return o.kind }
func (o *op) Charges() []zael.Charge           { return o.charges }
func (o *op) At() (at, seen bucket.Instant)    { return o.at, o.seen }
func (o *op) MaxWait() time.Duration           { return o.maxWait }
func (o *op) Calls() int                       { return o.calls }

func (w write) Input() *dynamodb.UpdateItemInput {
	return w.input(&Store{table: "fake"})
}

func RecordOf(it item) (*Record, error) { return recordOf(it) }

func (r *record) Birth() uint64 {
	if r == nil {
		return 0
	}
	return r.birth
}
func (r *record) Last() uint64 { return r.last }

// Removals is how many writes have removed limits.
func (r *record) Removals() uint64 {
	if r == nil {
		return 0
	}
	return r.removals
}

// Owns reports whether a receipt may be of a limit in a state.
func (r *record) Owns(s bucket.State, receipt bucket.Receipt) bool {
	turns, turn := s.Generation-r.birth, receipt.Generation-r.birth
	return turn <= turns && turn>>turnBits == turns>>turnBits
}

// Joins is the generation of a limit that the record does not have.
func (r *record) Joins() uint64 {
	return r.Birth() + r.Removals()<<turnBits
}
func (r *record) TTL() int64 { return r.ttl }
func (r *record) Names() (names []string) {
	if r == nil {
		return nil
	}
	for i := range r.limits {
		names = append(names, r.limits[i].name)
	}
	return names
}

func PadFor(d bucket.Definition, n int64) int64 { return padFor(d, n) }

func TextOf(d bucket.Definition, turns uint64) string       { return textOf(d, turns) }
func ParseText(s string) (bucket.Definition, uint64, error) { return parseText(s) }

// A Path is a path on its way.
type Path struct{ path }

func NewPath(s bucket.State) *Path {
	return &Path{path{piece: identity(), mark: s.Mark, def: s.Definition}}
}

func (p *Path) Take(at bucket.Instant, n int64, ahead time.Duration, pad int64) bool {
	return p.take(at, n, roomFor(p.def, at, n, ahead), pad)
}
func (p *Path) Charge(at bucket.Instant, n int64) error      { return p.charge(at, n) }
func (p *Path) Give(at bucket.Instant, n, receipt int64)     { p.give(at, n, receipt) }
func (p *Path) Under(d bucket.Definition, at bucket.Instant) { p.under(d, at) }
func (p *Path) Range() (lo, hi int64)                        { return p.lo, p.hi }
func (p *Path) Mark() int64                                  { return p.mark }
func (p *Path) Of(mark int64) int64                          { return p.of(mark) }
func (p *Path) Turns() uint64                                { return p.turns }
func (p *Path) Definition() bucket.Definition                { return p.def }

// SetWall makes the store's own wall clock, which nobody sets.
func (s *Store) SetWall(now func() time.Time) {
	start := now()
	s.SetClocks(func() (time.Time, time.Duration) {
		wall := now()
		return wall, wall.Sub(start)
	})
}

// SetClocks makes the store's own wall clock and monotonic clock.
func (s *Store) SetClocks(read func() (wall time.Time, mono time.Duration)) {
	s.read = func() reading {
		wall, mono := read()
		return reading{wall, mono}
	}
}

// readingAt is one of a wall clock that nobody sets.
func readingAt(wall time.Time) reading {
	return reading{wall, wall.Sub(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))}
}

func (c *clock) Answer(date, sent, received time.Time) {
	c.answer(date, readingAt(sent), readingAt(received))
}
func (c *clock) Offset(now time.Time) (time.Duration, bool) { return c.offset(readingAt(now)) }

// Kept is of how many buckets something is kept besides their last state.
func Kept(s *Store) int { return s.coalescer.Len() }

// Parked returns how many goroutines of a store wait for work.
func Parked(s *Store) int {
	s.inflight.mu.Lock()
	defer s.inflight.mu.Unlock()
	return len(s.inflight.parked)
}
