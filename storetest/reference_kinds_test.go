package storetest_test

import (
	"context"
	"slices"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// kinds are buckets of reference that have other limits than plain rates. They are
// bucket.Records, as package bucket is what other stores are compared with.
type kinds struct {
	records map[zael.Key]*bucket.Record
	kept    func(*bucket.Record)                // what is written
	give    func(*bucket.Record, []zael.Charge) // before an adjust
	extend  func(*bucket.Record, []zael.Charge, bucket.Instant) (bucket.Instant, bool)
}

func newKinds() kinds {
	return kinds{records: map[zael.Key]*bucket.Record{}, kept: func(*bucket.Record) {}, give: func(*bucket.Record, []zael.Charge) {}, extend: (*bucket.Record).Extend}
}

// have reports whether debits are for them.
func (k *kinds) have(debits []zael.Debit) bool {
	return slices.ContainsFunc(debits, func(d zael.Debit) bool {
		return k.records[d.Key] != nil || slices.ContainsFunc(d.Charges, func(c zael.Charge) bool { return !c.Definition.Plain() })
	})
}

// read returns copies of the records of debits.
func (k *kinds) read(debits []zael.Debit) []bucket.Record {
	records := make([]bucket.Record, len(debits))
	for i, d := range debits {
		if r := k.records[d.Key]; r != nil {
			records[i] = *r
			records[i].Limits, records[i].Holders = slices.Clone(r.Limits), slices.Clone(r.Holders)
		}
		records[i].Own = d.Holder
	}
	return records
}

func (k *kinds) finish(outcome bucket.Outcome, records []bucket.Record, debits []zael.Debit, at bucket.Instant) {
	for i, d := range debits {
		r := &records[i]
		if d.Bypass {
			r.Pass(d.Charges, at)
		} else if r.Finish(outcome, d.Charges, at) {
			k.kept(r)
			k.records[d.Key] = r
		}
	}
}

func (k *kinds) take(at bucket.Instant, maxWait time.Duration, birth uint64, debits []zael.Debit) error {
	records := k.read(debits)
	outcome := bucket.Fits
	for i, d := range debits {
		if !d.Bypass {
			outcome = max(outcome, records[i].Take(d.Charges, at, maxWait, birth))
		}
	}
	k.finish(outcome, records, debits, at)
	switch outcome {
	case bucket.Exceeds:
		return zael.ErrExceeded
	case bucket.StaleLimits:
		return zael.ErrStaleLimits
	}
	return nil
}

func (k *kinds) adjust(at bucket.Instant, birth uint64, debits []zael.Debit) error {
	records := k.read(debits)
	for i, d := range debits {
		k.give(&records[i], d.Charges)
		if _, err := records[i].Adjust(d.Charges, at, birth); err != nil {
			return &zael.ValidationError{Field: "amount", Reason: err.Error()}
		}
	}
	k.finish(bucket.Fits, records, debits, at)
	return nil
}

// kind is a store whose buckets of other kinds have one defect.
func kind(kept func(*bucket.Record), give func(*bucket.Record, []zael.Charge)) func() zael.Store {
	return func() zael.Store {
		s := newReference()
		if kept != nil {
			s.kinds.kept = kept
		}
		if give != nil {
			s.kinds.give = give
		}
		return s
	}
}

// states changes the states of a record.
func states(change func(*bucket.State)) func(*bucket.Record) {
	return func(r *bucket.Record) {
		for i := range r.Limits {
			change(&r.Limits[i].State)
		}
	}
}

func brokenKinds() []brokenStore {
	const (
		periods = "Kinds/a store keeps a period's start and what was used in it"
		flags   = "Kinds/a store keeps flags and calendars"
		gives   = "Kinds/what is given back counts in its own period alone"
		reclaim = "Kinds/slots of a holder that is silent are free for others"
		once    = "Kinds/a receipt releases only slots of its holder's generation"
		line    = "Kinds/timeline: "
	)
	return []brokenStore{
		{
			name:  "top-ups are not kept",
			make:  kind(states(func(s *bucket.State) { s.Used = max(s.Used, 0) }), nil),
			fails: []string{"Kinds/a top-up of a quota is on top until its period ends"},
		},
		{
			name:  "a reset leaves periods as they are",
			make:  refilling(func(edit *zael.Edit) { edit.Names = []string{"q"} }),
			fails: []string{"Kinds/a reset begins periods again"},
		},
		{
			name: "anything is topped up",
			make: administering(func(context.Context, *reference, time.Time, zael.Edit, zael.Once) (zael.EditResult, error) {
				return zael.EditResult{}, nil
			}),
			fails: []string{"Kinds/slots, and what is blocked or unlimited, cannot be topped up"},
		},
		{
			name: "what is used of a quota is not kept",
			make: kind(states(func(s *bucket.State) { s.Used = 0 }), nil),
			fails: []string{
				periods, line + "1, a day of 23 hours", line + "2, a day of 25 hours", line + "3, a time in the gap", line + "3, a time in the gap of New York", line + "4, months",
				line + "5, the 31st", line + "6, from first use", line + "7, a rate and a quota", line + "a clock that is behind",
				line + "block, unlimited and soft", randomKinds,
			},
		},
		{
			name:  "flags are not kept",
			make:  kind(states(func(s *bucket.State) { s.Definition.Flags = 0 }), nil),
			fails: []string{flags},
		},
		{
			name:  "a soft limit's debt is not kept",
			make:  kind(states(func(s *bucket.State) { s.Used = min(s.Used, s.Definition.Burst) }), nil),
			fails: []string{line + "debt is carried"},
		},
		{
			name: "a quota is forgotten when nothing of it is used",
			make: kind(func(r *bucket.Record) {
				r.Limits = slices.DeleteFunc(r.Limits, func(l bucket.LimitState) bool {
					return l.State.Definition.Kind == bucket.Quota && l.State.Used == 0
				})
			}, nil),
			fails: []string{"Kinds/a top-up that was used and given back stays until its period ends"},
		},
		{
			name: "a session begins though nothing is used",
			make: kind(func(r *bucket.Record) {
				for i := range r.Limits {
					if s := &r.Limits[i].State; s.Definition.Kind == bucket.Session && s.Used == 0 {
						s.Mark = int64(r.Latest)
					}
				}
			}, nil),
			fails: []string{"Kinds/a quota of which nothing is used becomes a session that has not begun"},
		},
		{
			name:  "what is stored does not say which limit has a name",
			make:  refilling(func(edit *zael.Edit) { edit.Stored = nil }),
			fails: []string{"Kinds/what is slots now is neither topped up nor reset"},
		},
		{
			name: "calendars are kept without their zone",
			make: kind(states(func(s *bucket.State) {
				if s.Definition.Calendar != nil {
					spec := s.Definition.Calendar.Spec()
					spec.Zone = "UTC"
					s.Definition.Calendar, _ = bucket.NewCalendar(spec)
				}
			}), nil),
			fails: []string{flags},
		},
		{
			name:  "schedules are not kept",
			make:  kind(states(func(s *bucket.State) { s.Definition.Schedule = nil }), nil),
			fails: []string{line + "8, by wall clock"},
		},
		{
			name: "stored limits of slots do not reach buckets in use",
			make: kind(nil, func(_ *bucket.Record, charges []zael.Charge) {
				for i := range charges {
					if c := &charges[i]; c.Definition.Kind == bucket.Slots && c.Amount == 0 {
						c.Definition.Rev = 0
					}
				}
			}),
			fails: []string{"Kinds/an adjust of no slots, by no holder, changes their definition"},
		},
		{
			name: "gives do not look at the period",
			make: kind(nil, func(r *bucket.Record, charges []zael.Charge) {
				for i := range charges {
					if c := &charges[i]; c.Definition.Kind == bucket.Quota {
						c.Receipt.Mark = r.State(c.Name).Mark
					}
				}
			}),
			fails: []string{gives},
		},
		{
			name: "holders never die",
			make: kind(func(r *bucket.Record) {
				for i := range r.Holders {
					r.Holders[i].Deadline = bucket.MaxInstant
				}
			}, nil),
			fails: []string{reclaim},
		},
		{
			name: "releases do not look at the generation",
			make: kind(nil, func(r *bucket.Record, charges []zael.Charge) {
				for i := range charges {
					for _, h := range r.Holders {
						if h.ID == r.Own {
							charges[i].Receipt.Generation = h.Generation
						}
					}
				}
			}),
			fails: []string{once},
		},
	}
}
