package storetest_test

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// answers takes the time that an answer does, or until the caller leaves.
func answers(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(2 * time.Millisecond):
	}
}

type underFunc = func(s bucket.State, d bucket.Definition, at bucket.Instant, birth uint64) bucket.State

// under is a store that brings limits that it has under others in its own way.
func under(change underFunc) func() zael.Store {
	return step(func(s *reference) {
		s.under = func(st bucket.State, d bucket.Definition, at bucket.Instant, birth uint64) bucket.State {
			if st.Absent() || st.Definition == d {
				return st.Redefine(d, at, birth)
			}
			return change(st, d, at, birth)
		}
	})
}

// brokenDefinitions have a defect where definitions change.
func brokenDefinitions() []brokenStore {
	return []brokenStore{
		{
			name: "keeps the fraction of a changed limit",
			make: under(func(s bucket.State, d bucket.Definition, at bucket.Instant, _ uint64) bucket.State {
				level := s.Mark - s.Definition.Drip(at)
				return bucket.State{Definition: d, Mark: d.Drip(at) + max(0, level)*d.Burst/s.Definition.Burst, Generation: s.Generation + 1}
			}),
			fails: []string{
				"BucketStore/a changed limit keeps the tokens taken", "BucketStore/flipping two definitions makes no tokens",
				"BucketStore/a limit raised or lowered in debt", "BucketStore/random operations against a model",
			},
		},
		{
			name: "cuts a changed limit at its burst",
			make: under(func(s bucket.State, d bucket.Definition, at bucket.Instant, birth uint64) bucket.State {
				next := s.Redefine(d, at, birth)
				next.Mark = min(next.Mark, d.Drip(at)+d.Burst*d.Unit())
				return next
			}),
			fails: []string{"BucketStore/flipping two definitions makes no tokens", "BucketStore/a limit raised or lowered in debt"},
		},
		{
			name: "a changed limit starts full",
			make: under(func(_ bucket.State, d bucket.Definition, at bucket.Instant, birth uint64) bucket.State {
				return bucket.State{}.Redefine(d, at, birth)
			}),
			fails: []string{"BucketStore/a changed limit keeps the tokens taken"},
		},
		{
			name: "marks move as they are",
			make: under(func(s bucket.State, d bucket.Definition, at bucket.Instant, _ uint64) bucket.State {
				return bucket.State{Definition: d, Mark: max(s.Mark, d.Drip(at)), Generation: s.Generation + 1}
			}),
			fails: []string{"BucketStore/a changed limit keeps the tokens taken", "BucketStore/a refusal keeps a definition that admits sooner"},
		},
		{
			name: "a stored limit's successor never caps",
			make: under(func(s bucket.State, d bucket.Definition, at bucket.Instant, birth uint64) bucket.State {
				s.Definition.Rev = 0
				return s.Redefine(d, at, birth)
			}),
			fails: []string{"BucketStore/a stored limit replaced caps once"},
		},
		{
			name: "units move as they are",
			make: under(func(s bucket.State, d bucket.Definition, at bucket.Instant, birth uint64) bucket.State {
				if s.Definition.Unit() == d.Unit() {
					return s.Redefine(d, at, birth)
				}
				return bucket.State{Definition: d, Mark: d.Drip(at) + max(0, s.Mark-s.Definition.Drip(at)), Generation: s.Generation + 1}
			}),
			fails: []string{"BucketStore/a change of the unit keeps the tokens taken"},
		},
		{
			name: "the generation stays when the definition changes",
			make: under(func(s bucket.State, d bucket.Definition, at bucket.Instant, birth uint64) bucket.State {
				next := s.Redefine(d, at, birth)
				next.Generation = s.Generation
				return next
			}),
			fails: []string{"BucketStore/a give of another generation gives nothing", "BucketStore/random operations against a model"},
		},
		{
			name: "the generation moves with every revision",
			make: under(func(s bucket.State, d bucket.Definition, at bucket.Instant, birth uint64) bucket.State {
				next := s.Redefine(d, at, birth)
				next.Generation = s.Generation + 1
				return next
			}),
			fails: []string{"BucketStore/an adjust under stale limits keeps the bucket's"},
		},
		{
			name: "an added limit starts empty",
			make: step(func(s *reference) {
				s.under = func(st bucket.State, d bucket.Definition, at bucket.Instant, birth uint64) bucket.State {
					next := st.Redefine(d, at, birth)
					if st.Absent() && s.births > 1<<32 { // not the first limit
						next.Mark += d.Burst * d.Unit()
					}
					return next
				}
			}),
			fails: []string{"BucketStore/a limit added to a live bucket starts full"},
		},
		{
			name:  "a change counts by a clock that is behind",
			make:  step(func(s *reference) { s.convert = func(_ *record, at bucket.Instant) bucket.Instant { return at } }),
			fails: []string{"BucketStore/a change at an older instant makes no tokens"},
		},
		{
			name:  "a refusal keeps nothing",
			make:  step(func(s *reference) { s.keeps = func(_, _ bucket.State, _ bucket.Instant, _ int64) bool { return false } }),
			fails: []string{"BucketStore/a refusal keeps a definition that admits sooner", "BucketStore/random operations against a model"},
		},
		{
			name:  "a refusal keeps any definition",
			make:  step(func(s *reference) { s.keeps = func(_, _ bucket.State, _ bucket.Instant, _ int64) bool { return true } }),
			fails: []string{"BucketStore/a refusal keeps no other definition", "BucketStore/random operations against a model"},
		},
		{
			name:  "no limit is stale",
			make:  step(func(s *reference) { s.stale = func(bucket.State, bucket.Definition) bool { return false } }),
			fails: []string{"BucketStore/stale limits change nothing", "BucketStore/an adjust under stale limits keeps the bucket's"},
		},
		{
			name: "any other revision is stale",
			make: step(func(s *reference) {
				s.stale = func(st bucket.State, d bucket.Definition) bool { return !st.Absent() && st.Definition.Rev != d.Rev }
			}),
			fails: []string{"BucketStore/revisions that are not stale"},
		},
		{
			name: "a limit of the call is stale",
			make: step(func(s *reference) {
				s.stale = func(st bucket.State, d bucket.Definition) bool { return st.Definition.Rev > d.Rev }
			}),
			fails: []string{"BucketStore/revisions that are not stale", "BucketStore/a charge of 0 brings a limit under its definition"},
		},
	}
}

// adjusted is a store whose Adjust sees other debits.
func adjusted(change func(good *reference, debits []zael.Debit) []zael.Debit) func() zael.Store {
	return method(func(o *override, good *reference) {
		o.adjust = func(ctx context.Context, now time.Time, debits []zael.Debit) (time.Time, error) {
			return good.Adjust(ctx, now, change(good, debits))
		}
	})
}

// charges are copies of debits with some charges left out.
func charges(debits []zael.Debit, keep func(zael.Key, zael.Charge) bool) []zael.Debit {
	debits = slices.Clone(debits)
	for i, d := range debits {
		debits[i].Charges = slices.DeleteFunc(slices.Clone(d.Charges), func(c zael.Charge) bool { return !keep(d.Key, c) })
	}
	return debits
}

// give is a store that gives back in its own way.
func give(change func(s bucket.State, at bucket.Instant, n int64, r bucket.Receipt) bucket.State) func() zael.Store {
	return step(func(s *reference) { s.give = change })
}

// brokenAdjusts have a defect in charging and giving back.
func brokenAdjusts() []brokenStore {
	return []brokenStore{
		{
			name: "makes a bucket by the first charge of a limit alone",
			make: method(func(o *override, good *reference) {
				o.adjust = func(ctx context.Context, now time.Time, debits []zael.Debit) (time.Time, error) {
					for i := range debits {
						_, b, err := good.Buckets(ctx, now, []zael.Key{debits[i].Key})
						if err != nil {
							return now, err
						}
						if len(b[0].Limits) == 0 {
							charges := debits[i].Charges
							debits[i].Charges = slices.CompactFunc(slices.Clone(charges),
								func(a, b zael.Charge) bool { return a.Name == b.Name })
						}
					}
					return good.Adjust(ctx, now, debits)
				}
			}),
			fails: []string{"BucketStore/charges of one limit under two definitions make a bucket"},
		},
		{
			name: "debt is lost",
			make: step(func(s *reference) {
				s.charge = func(st bucket.State, at bucket.Instant, n int64) (bucket.State, error) {
					if st.Absent() {
						return st, nil
					}
					return st.Charge(at, min(n, max(0, st.Available(at))))
				}
			}),
			fails: []string{
				"BucketStore/an adjust charges into debt", "BucketStore/asking for 0 takes nothing and is refused in debt",
				"BucketStore/a limit raised or lowered in debt", "BucketStore/random operations against a model",
			},
		},
		{
			name: "an adjust refuses",
			make: step(func(s *reference) {
				s.charge = func(st bucket.State, at bucket.Instant, n int64) (bucket.State, error) {
					if next, ok := st.Take(at, n, 0); ok {
						return next, nil
					}
					return st, zael.ErrExceeded
				}
			}),
			fails: []string{"BucketStore/an adjust charges into debt"},
		},
		{
			name: "an adjust that fails has charged the first limits",
			make: method(func(o *override, good *reference) {
				o.adjust = func(ctx context.Context, now time.Time, debits []zael.Debit) (time.Time, error) {
					at, err := good.Adjust(ctx, now, debits)
					if err != nil && len(debits[0].Charges) > 1 {
						_, _ = good.Adjust(ctx, now, []zael.Debit{{Key: debits[0].Key, Charges: debits[0].Charges[:1]}})
					}
					return at, err
				}
			}),
			fails: []string{"BucketStore/wrong arguments are validation errors"},
		},
		{
			name: "an adjust makes no bucket",
			make: adjusted(func(good *reference, debits []zael.Debit) []zael.Debit {
				return charges(debits, func(k zael.Key, _ zael.Charge) bool { return good.buckets[k] != nil })
			}),
			fails: []string{"BucketStore/an adjust makes a bucket"},
		},
		{
			name:  "an adjust of the first bucket",
			make:  adjusted(func(_ *reference, debits []zael.Debit) []zael.Debit { return debits[:1] }),
			fails: []string{"BucketStore/an adjust of several buckets"},
		},
		{
			name: "a charge of 0 does nothing",
			make: adjusted(func(_ *reference, debits []zael.Debit) []zael.Debit {
				return charges(debits, func(_ zael.Key, c zael.Charge) bool { return c.Amount != 0 })
			}),
			fails: []string{"BucketStore/a charge of 0 brings a limit under its definition", "BucketStore/random operations against a model"},
		},
		{
			name: "charges before gives",
			make: adjusted(func(_ *reference, debits []zael.Debit) []zael.Debit {
				for _, d := range debits {
					slices.SortStableFunc(d.Charges, func(a, b zael.Charge) int { return int(b.Amount - a.Amount) })
				}
				return debits
			}),
			fails: []string{"BucketStore/charges of one limit apply in order"},
		},
		{
			name: "the last charge of a limit wins",
			make: adjusted(func(_ *reference, debits []zael.Debit) []zael.Debit {
				debits = charges(debits, func(zael.Key, zael.Charge) bool { return true })
				for i, d := range debits {
					last := map[string]int{}
					for j, c := range d.Charges {
						last[c.Name] = j
					}
					debits[i].Charges = nil
					for j, c := range d.Charges {
						if last[c.Name] == j {
							debits[i].Charges = append(debits[i].Charges, c)
						}
					}
				}
				return debits
			}),
			fails: []string{"BucketStore/charges of one limit apply in order", "BucketStore/random operations against a model"},
		},
		{
			name: "an adjust writes no states",
			make: adjusted(func(_ *reference, debits []zael.Debit) []zael.Debit {
				return charges(debits, func(zael.Key, zael.Charge) bool { return true })
			}),
			fails: []string{"BucketStore/an adjust writes states"},
		},
		{
			name: "gives nothing",
			make: give(func(s bucket.State, _ bucket.Instant, _ int64, _ bucket.Receipt) bucket.State { return s }),
			fails: []string{
				"BucketStore/a give returns what was taken", "BucketStore/callers who give back", "BucketStore/an adjust of several buckets",
			},
		},
		{
			name: "gives above the burst",
			make: give(func(s bucket.State, _ bucket.Instant, n int64, r bucket.Receipt) bucket.State {
				if !s.Absent() && s.Generation == r.Generation {
					s.Mark -= n * s.Definition.Unit()
				}
				return s
			}),
			fails: []string{
				"BucketStore/a give never goes above the burst", "BucketStore/what has refilled is not given back",
				"BucketStore/hoarded leases make no tokens", "BucketStore/random operations against a model",
			},
		},
		{
			name: "gives without looking at the receipt's mark",
			make: give(func(s bucket.State, at bucket.Instant, n int64, r bucket.Receipt) bucket.State {
				return s.Give(at, n, bucket.Receipt{Mark: s.Mark, Generation: r.Generation})
			}),
			fails: []string{"BucketStore/what has refilled is not given back", "BucketStore/a place in line is given back only at its end"},
		},
		{
			name: "gives without looking at the receipt's generation",
			make: give(func(s bucket.State, at bucket.Instant, n int64, r bucket.Receipt) bucket.State {
				return s.Give(at, n, bucket.Receipt{Mark: r.Mark, Generation: s.Generation})
			}),
			fails: []string{"BucketStore/a give of another generation gives nothing", "BucketStore/a give after the bucket was deleted gives nothing"},
		},
		{
			name:  "every bucket is born in one generation",
			make:  step(func(s *reference) { s.birth = func(*reference) uint64 { return 1 } }),
			fails: []string{"BucketStore/a give after the bucket was deleted gives nothing", "BucketStore/a receipt of a forgotten limit gives nothing to the next"},
		},
		{
			name: "applies the first 40 charges of a debit",
			make: adjusted(func(_ *reference, debits []zael.Debit) []zael.Debit {
				for i, d := range debits {
					debits[i].Charges = d.Charges[:min(len(d.Charges), 40)]
				}
				return debits
			}),
			fails: []string{"BucketStore/any number of charges of one limit"},
		},
		{
			name: "a give to a missing bucket charges it",
			make: adjusted(func(good *reference, debits []zael.Debit) []zael.Debit {
				for _, d := range debits {
					for i, c := range d.Charges {
						if c.Amount < 0 && good.record(d.Key).limits[c.Name].Absent() {
							d.Charges[i].Amount = -c.Amount
						}
					}
				}
				return debits
			}),
			fails: []string{"BucketStore/a give to a missing bucket does nothing"},
		},
		{
			name: "a give brings the bucket under its definition",
			make: method(func(o *override, good *reference) {
				o.adjust = func(ctx context.Context, now time.Time, debits []zael.Debit) (time.Time, error) {
					at, err := good.Adjust(ctx, now, debits)
					for _, d := range debits {
						for _, c := range d.Charges {
							if c.Amount < 0 {
								c.Amount = 0
								_, _ = good.Adjust(ctx, now, []zael.Debit{{Key: d.Key, Charges: []zael.Charge{c}}})
							}
						}
					}
					return at, err
				}
			}),
			fails: []string{"BucketStore/a give of another generation gives nothing", "BucketStore/random operations against a model"},
		},
		{
			name:  "a give counts by a clock that is behind",
			make:  step(func(s *reference) { s.given = func(_ *record, at bucket.Instant) bucket.Instant { return at } }),
			fails: []string{"BucketStore/a give counts by the latest instant seen"},
		},
		{
			name: "a context that ends leaves half",
			make: method(func(o *override, good *reference) {
				o.take = func(ctx context.Context, now time.Time, w time.Duration, debits []zael.Debit) (time.Time, error) {
					if ctx.Err() != nil {
						_, _ = good.Take(context.WithoutCancel(ctx), now, w, debits[:1])
					}
					return good.Take(ctx, now, w, debits)
				}
			}),
			fails: []string{"BucketStore/a done context: all or nothing", "UsageStore/a done context: all or nothing"},
		},
		{
			name: "a caller who leaves loses the tokens",
			make: method(func(o *override, good *reference) {
				o.take = func(ctx context.Context, now time.Time, w time.Duration, debits []zael.Debit) (time.Time, error) {
					at, err := good.Take(context.WithoutCancel(ctx), now, w, debits)
					answers(ctx)
					return at, errors.Join(err, ctx.Err())
				}
			}),
			fails:    []string{"BucketStore/callers who leave hold nothing", "UsageStore/callers who leave are not counted", "SlotStore/callers who leave hold no slots"},
			patience: time.Second,
		},
		{
			name: "what a caller takes who leaves is given back to its own bucket alone",
			make: method(func(o *override, good *reference) {
				o.take = func(ctx context.Context, now time.Time, w time.Duration, debits []zael.Debit) (time.Time, error) {
					at, err := good.Take(context.WithoutCancel(ctx), now, w, debits)
					if answers(ctx); err != nil || ctx.Err() == nil {
						return at, err
					}
					given := zael.Debit{Key: debits[0].Key, Charges: slices.Clone(debits[0].Charges)}
					for i := range given.Charges {
						given.Charges[i].Amount = -given.Charges[i].Amount
					}
					_, err = good.Adjust(context.WithoutCancel(ctx), now, []zael.Debit{given})
					return at, errors.Join(err, ctx.Err())
				}
			}),
			fails:    []string{"BucketStore/callers who leave hold nothing"},
			patience: time.Second,
		},
		{
			name: "a context that ends is another error",
			make: method(func(o *override, good *reference) {
				o.adjust = func(ctx context.Context, now time.Time, debits []zael.Debit) (time.Time, error) {
					if ctx.Err() != nil {
						return now, errors.New("interrupted")
					}
					return good.Adjust(ctx, now, debits)
				}
			}),
			fails: []string{"BucketStore/a done context: all or nothing"},
		},
	}
}
