package storetest_test

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/saturate"
)

// overdraws is a store that counts in its own way, after each take that fits, how many acquires a
// debit left overdrawn, by limit.
func overdraws(count func(at bucket.Instant, d zael.Debit) map[string]int64) func() zael.Store {
	return method(func(o *override, good *reference) {
		o.take = func(ctx context.Context, now time.Time, w time.Duration, debits []zael.Debit) (time.Time, error) {
			before := overdrawn(good)
			counted, err := good.Take(ctx, now, w, debits)
			if err == nil {
				setOverdrawn(good, before)
				for _, d := range debits {
					overdraw(good, now, d.Key, count(at(counted), d))
				}
			}
			return counted, err
		}
	})
}

func overdrawn(s *reference) map[usageKey]map[string]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[usageKey]map[string]int64{}
	for k, r := range s.usage {
		all[k] = maps.Clone(r.Overdrawn)
	}
	return all
}

func setOverdrawn(s *reference, all map[usageKey]map[string]int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, r := range s.usage {
		r.Overdrawn = all[k]
		s.usage[k] = r
	}
}

// overdraw adds to the hour and the day of a bucket.
func overdraw(s *reference, now time.Time, key zael.Key, n map[string]int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range []zael.Window{zael.Hourly, zael.Daily} {
		start, _ := w.Bounds(now)
		k := usageKey{key, w, start}
		if r, ok := s.usage[k]; ok {
			r.Overdrawn = saturate.AddAll(maps.Clone(r.Overdrawn), n)
			s.usage[k] = r
		}
	}
}

// those counts one for each charge that is so.
func those(is func(at bucket.Instant, d *zael.Debit, c *zael.Charge) bool) func() zael.Store {
	return overdraws(func(at bucket.Instant, d zael.Debit) map[string]int64 {
		n := map[string]int64{}
		for i := range d.Charges {
			if c := &d.Charges[i]; is(at, &d, c) {
				n[c.Name]++
			}
		}
		return n
	})
}

// brokenOverdrawn count in another way which takes left limits overdrawn.
func brokenOverdrawn() []brokenStore {
	const (
		takes   = "UsageStore/takes that leave a soft limit overdrawn are counted"
		alone   = "UsageStore/what is charged and given back is not counted as overdrawn"
		each    = "UsageStore/each limit of a bucket and of its parent's is overdrawn by itself"
		crowd   = "UsageStore/concurrent takes that overdraw are all counted"
		leavers = "UsageStore/callers who leave overdraw nothing"
	)
	return []brokenStore{
		{
			name:  "nothing is overdrawn",
			make:  overdraws(func(bucket.Instant, zael.Debit) map[string]int64 { return nil }),
			fails: []string{takes, alone, each, crowd, leavers}, patience: time.Second,
		},
		{
			name: "what has the last token overdraws",
			make: those(func(at bucket.Instant, d *zael.Debit, c *zael.Charge) bool {
				return !d.Bypass && c.Definition.Flags&bucket.Soft != 0 && c.State.Available(at) <= 0
			}),
			fails: []string{takes, each, crowd},
		},
		{
			name: "who asks for 0 overdraws nothing",
			make: those(func(at bucket.Instant, d *zael.Debit, c *zael.Charge) bool {
				return !d.Bypass && c.Overdraws(at) && c.Amount > 0
			}),
			fails: []string{takes},
		},
		{
			name: "tokens are counted as overdrawn",
			make: overdraws(func(at bucket.Instant, d zael.Debit) map[string]int64 {
				n := map[string]int64{}
				for i := range d.Charges {
					if c := &d.Charges[i]; !d.Bypass && c.Overdraws(at) {
						n[c.Name] = min(c.Amount, -c.State.Available(at))
					}
				}
				return n
			}),
			fails: []string{takes, alone, each},
		},
		{
			name:  "bypassed takes overdraw",
			make:  those(func(at bucket.Instant, _ *zael.Debit, c *zael.Charge) bool { return c.Overdraws(at) }),
			fails: []string{alone},
		},
		{
			name: "all limits are overdrawn with one",
			make: overdraws(func(at bucket.Instant, d zael.Debit) map[string]int64 {
				n := map[string]int64{}
				some := slices.ContainsFunc(d.Charges, func(c zael.Charge) bool { return c.Overdraws(at) })
				for _, c := range d.Charges {
					if some && !d.Bypass {
						n[c.Name] = 1
					}
				}
				return n
			}),
			fails: []string{alone, each},
		},
		{
			name: "rates alone are overdrawn",
			make: those(func(at bucket.Instant, d *zael.Debit, c *zael.Charge) bool {
				return !d.Bypass && c.Overdraws(at) && c.Definition.Kind == bucket.Rate
			}),
			fails: []string{each},
		},
		{
			name: "the child alone is overdrawn",
			make: those(func(at bucket.Instant, d *zael.Debit, c *zael.Charge) bool {
				return !d.Bypass && c.Overdraws(at) && d.Key.Entity != "parent"
			}),
			fails: []string{each},
		},
		{
			name: "settles and gives overdraw",
			make: method(func(o *override, good *reference) {
				o.adjust = func(ctx context.Context, now time.Time, debits []zael.Debit) (time.Time, error) {
					counted, err := good.Adjust(ctx, now, debits)
					for _, d := range debits {
						for _, c := range d.Charges {
							if err == nil && c.Definition.Flags&bucket.Soft != 0 {
								overdraw(good, now, d.Key, map[string]int64{c.Name: min(1, max(-1, c.Amount))})
							}
						}
					}
					return counted, err
				}
			}),
			fails: []string{alone},
		},
		{
			name: "who leaves has overdrawn",
			make: method(func(o *override, good *reference) {
				o.take = func(ctx context.Context, now time.Time, w time.Duration, debits []zael.Debit) (time.Time, error) {
					counted, err := good.Take(ctx, now, w, debits)
					if answers(ctx); err == nil && ctx.Err() != nil {
						return counted, ctx.Err()
					}
					return counted, err
				}
			}),
			fails: []string{leavers, "UsageStore/callers who leave are not counted"}, patience: time.Second,
		},
	}
}
