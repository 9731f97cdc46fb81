package storetest_test

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// brokenTakes have a defect in a step.
func brokenTakes() []brokenStore {
	return []brokenStore{
		{
			name: "admits a nanosecond early",
			make: step(func(s *reference) {
				s.take = func(st bucket.State, at bucket.Instant, n int64, ahead time.Duration) (bucket.State, bool) {
					return st.Take(at, n, ahead+1)
				}
			}),
			fails: []string{"BucketStore/a refusal ends at the nanosecond it says", "BucketStore/a wait reserves what will have refilled"},
		},
		{
			name: "admits a nanosecond late",
			make: step(func(s *reference) {
				s.take = func(st bucket.State, at bucket.Instant, n int64, ahead time.Duration) (bucket.State, bool) {
					if _, ok := st.Take(at-1, n, ahead); !ok {
						return st, false
					}
					return st.Take(at, n, ahead)
				}
			}),
			fails: []string{"BucketStore/a refusal ends at the nanosecond it says"},
		},
		{
			name: "keeps one token of the burst to itself",
			make: step(func(s *reference) {
				s.take = func(st bucket.State, at bucket.Instant, n int64, ahead time.Duration) (bucket.State, bool) {
					if _, ok := st.Take(at, n+1, ahead); !ok {
						return st, false
					}
					return st.Take(at, n, ahead)
				}
			}),
			fails: []string{"BucketStore/a full bucket gives its burst and no more"},
		},
		{
			name: "takes more than the burst from a full bucket",
			make: step(func(s *reference) {
				s.take = func(st bucket.State, at bucket.Instant, n int64, ahead time.Duration) (bucket.State, bool) {
					if st.Full(at) {
						next, err := st.Charge(at, n)
						return next, err == nil
					}
					return st.Take(at, n, ahead)
				}
			}),
			fails: []string{"BucketStore/a full bucket gives its burst and no more"},
		},
		{
			name:  "refill gained by every write",
			make:  step(func(s *reference) { s.take = rounded(func(level, unit int64) int64 { return level / unit * unit }) }),
			fails: []string{"BucketStore/refill is exact however often it is asked", "BucketStore/random operations against a model"},
		},
		{
			name: "refill lost by every write",
			make: step(func(s *reference) {
				s.take = rounded(func(level, unit int64) int64 { return (level + unit - 1) / unit * unit })
			}),
			fails: []string{"BucketStore/refill is exact however often it is asked", "BucketStore/random operations against a model"},
		},
		{
			name: "asked 0 is not asked",
			make: step(func(s *reference) {
				s.take = func(st bucket.State, at bucket.Instant, n int64, ahead time.Duration) (bucket.State, bool) {
					if n == 0 {
						return st, true
					}
					return st.Take(at, n, ahead)
				}
			}),
			fails: []string{"BucketStore/asking for 0 takes nothing and is refused in debt"},
		},
		{
			name: "does not wait",
			make: step(func(s *reference) {
				s.take = func(st bucket.State, at bucket.Instant, n int64, _ time.Duration) (bucket.State, bool) {
					return st.Take(at, n, 0)
				}
			}),
			fails: []string{"BucketStore/a wait reserves what will have refilled"},
		},
		{
			name:  "limits are by entity",
			make:  step(func(s *reference) { s.key = func(k zael.Key) zael.Key { return zael.Key{Entity: k.Entity} } }),
			fails: []string{"BucketStore/limits of one name in two buckets are two"},
		},
		{
			name:  "keys are folded to lower case",
			make:  step(func(s *reference) { s.key = lower }),
			fails: []string{"BucketStore/keys that differ are different buckets"},
		},
		{
			name: "keys are joined by a #",
			make: step(func(s *reference) {
				s.key = func(k zael.Key) zael.Key { return zael.Key{Entity: k.Entity + "#" + k.Resource} }
			}),
			fails: []string{"BucketStore/keys that differ are different buckets"},
		},
		{
			name: "keys are joined by a dot",
			make: step(func(s *reference) {
				s.key = func(k zael.Key) zael.Key { return zael.Key{Entity: k.Entity + "." + k.Resource} }
			}),
			fails: []string{"BucketStore/keys that differ are different buckets"},
		},
		{
			name: "keys end at 1024 bytes",
			make: step(func(s *reference) {
				s.key = func(k zael.Key) zael.Key {
					return zael.Key{Entity: k.Entity[:min(len(k.Entity), 1024)], Resource: k.Resource[:min(len(k.Resource), 1024)]}
				}
			}),
			fails: []string{"BucketStore/keys that differ are different buckets"},
		},
		{
			name: "keys lose what is not UTF-8",
			make: step(func(s *reference) {
				s.key = func(k zael.Key) zael.Key {
					return zael.Key{Entity: strings.ToValidUTF8(k.Entity, "?"), Resource: strings.ToValidUTF8(k.Resource, "?")}
				}
			}),
			fails: []string{"BucketStore/keys that differ are different buckets"},
		},
		{
			name: "keys with a dot are refused",
			make: method(func(o *override, good *reference) {
				o.take = func(ctx context.Context, now time.Time, w time.Duration, debits []zael.Debit) (time.Time, error) {
					if strings.Contains(debits[0].Key.Entity+debits[0].Key.Resource, ".") {
						return now, &zael.ValidationError{Field: "key", Reason: "has a dot"}
					}
					return good.Take(ctx, now, w, debits)
				}
			}),
			fails: []string{"BucketStore/keys that differ are different buckets"},
		},
		{
			name:  "limit names are folded to lower case",
			make:  step(func(s *reference) { s.limit = strings.ToLower }),
			fails: []string{"BucketStore/limits that differ in name are different limits"},
		},
		{
			name:  "limit names lose their dashes and dots",
			make:  step(func(s *reference) { s.limit = strings.NewReplacer("-", "_", ".", "_").Replace }),
			fails: []string{"BucketStore/limits that differ in name are different limits"},
		},
		{
			name: "no instants before the epoch",
			make: step(func(s *reference) {
				s.instant = func(_ *reference, now bucket.Instant) bucket.Instant { return max(now, 0) }
			}),
			fails: []string{"BucketStore/instants before the epoch and long after it"},
		},
		{
			name: "marks of 60 bits",
			make: step(func(s *reference) {
				s.charge = func(st bucket.State, at bucket.Instant, n int64) (bucket.State, error) {
					next, err := st.Charge(at, n)
					next.Mark = min(next.Mark, 1<<60)
					return next, err
				}
			}),
			fails: []string{"BucketStore/the largest numbers", "BucketStore/wrong arguments are validation errors"},
		},
		{
			name: "marks kept as floats",
			make: step(func(s *reference) {
				s.take = func(st bucket.State, at bucket.Instant, n int64, ahead time.Duration) (bucket.State, bool) {
					next, ok := st.Take(at, n, ahead)
					next.Mark = int64(float32(next.Mark))
					return next, ok
				}
			}),
			fails: []string{"BucketStore/random operations against a model"},
		},
	}
}

// rounded is a take that rounds the level, in units.
func rounded(round func(level, unit int64) int64) func(bucket.State, bucket.Instant, int64, time.Duration) (bucket.State, bool) {
	return func(st bucket.State, at bucket.Instant, n int64, ahead time.Duration) (bucket.State, bool) {
		next, ok := st.Take(at, n, ahead)
		if drip := next.Definition.Drip(at); ok && next.Mark > drip {
			next.Mark = drip + round(next.Mark-drip, next.Definition.Unit())
		}
		return next, ok
	}
}

func lower(k zael.Key) zael.Key {
	return zael.Key{Entity: strings.ToLower(k.Entity), Resource: strings.ToLower(k.Resource)}
}

// brokenMethods have a defect in what Take and Buckets do with their arguments
// and answers.
func brokenMethods() []brokenStore {
	return []brokenStore{
		{
			name: "charges the limits that fit",
			make: method(func(o *override, good *reference) {
				o.take = func(ctx context.Context, now time.Time, w time.Duration, debits []zael.Debit) (time.Time, error) {
					at, err := good.Take(ctx, now, w, debits)
					for _, d := range debits {
						for _, c := range d.Charges {
							if errors.Is(err, zael.ErrExceeded) {
								_, _ = good.Take(ctx, now, w, []zael.Debit{{Key: d.Key, Charges: []zael.Charge{c}}})
							}
						}
					}
					return at, err
				}
			}),
			fails: []string{
				"BucketStore/a take charges all limits or none", "BucketStore/a take charges all buckets or none",
				"BucketStore/random operations against a model", "UsageStore/refused takes are not counted",
			},
		},
		{
			name: "charges the parent though the child refuses",
			make: method(func(o *override, good *reference) {
				o.take = func(ctx context.Context, now time.Time, w time.Duration, debits []zael.Debit) (time.Time, error) {
					at, err := good.Take(ctx, now, w, debits)
					if errors.Is(err, zael.ErrExceeded) && len(debits) > 1 {
						_, _ = good.Take(ctx, now, w, slices.Clone(debits[1:]))
					}
					return at, err
				}
			}),
			fails: []string{"BucketStore/a take charges all buckets or none", "BucketStore/children never take more than the parent has"},
		},
		{
			name: "takes from two buckets, the others from the rest",
			make: method(func(o *override, good *reference) {
				o.take = func(ctx context.Context, now time.Time, maxWait time.Duration, debits []zael.Debit) (time.Time, error) {
					at, err := good.Take(ctx, now, maxWait, debits[:min(2, len(debits))])
					if err == nil && len(debits) > 2 {
						at, err = good.Take(ctx, now, maxWait, debits[2:])
					}
					return at, err
				}
			}),
			fails: []string{"BucketStore/a take from many buckets takes from all or none"},
		},
		{
			name: "charges the child though the parent refuses",
			make: method(func(o *override, good *reference) {
				o.take = func(ctx context.Context, now time.Time, w time.Duration, debits []zael.Debit) (time.Time, error) {
					at, err := good.Take(ctx, now, w, debits)
					if errors.Is(err, zael.ErrExceeded) && len(debits) > 1 {
						_, _ = good.Take(ctx, now, w, debits[:1])
					}
					return at, err
				}
			}),
			fails: []string{"BucketStore/a take charges all buckets or none"},
		},
		{
			name: "charges the first limit only",
			make: method(func(o *override, good *reference) {
				o.take = func(ctx context.Context, now time.Time, w time.Duration, debits []zael.Debit) (time.Time, error) {
					return good.Take(ctx, now, w, []zael.Debit{{Key: debits[0].Key, Charges: debits[0].Charges[:1]}})
				}
			}),
			fails: []string{"BucketStore/a take charges every limit", "BucketStore/receipts and states are written"},
		},
		{
			name:  "writes no receipts",
			make:  written(func(_ error, c *zael.Charge) { c.Receipt = bucket.Receipt{} }),
			fails: []string{"BucketStore/receipts and states are written", "BucketStore/random operations against a model"},
		},
		{
			name: "writes receipts of marks alone",
			make: written(func(_ error, c *zael.Charge) { c.Receipt.Generation = 0 }),
			fails: []string{
				"BucketStore/receipts and states are written", "BucketStore/a give returns what was taken",
				"BucketStore/callers who give back", "BucketStore/random operations against a model",
			},
		},
		{
			name: "writes no state of a refusal",
			make: written(func(err error, c *zael.Charge) {
				if errors.Is(err, zael.ErrExceeded) {
					c.State = bucket.State{}
				}
			}),
			fails: []string{"BucketStore/a refusal tells the state of every charge"},
		},
		{
			name: "a refusal tells the limits that fit as charged",
			make: written(func(err error, c *zael.Charge) {
				if errors.Is(err, zael.ErrExceeded) {
					c.State.Mark += c.Amount * 1000
				}
			}),
			fails: []string{"BucketStore/a refusal tells the state of every charge"},
		},
		{
			name: "stale limits leave the caller's state",
			make: written(func(err error, c *zael.Charge) {
				if errors.Is(err, zael.ErrStaleLimits) {
					c.State.Definition = c.Definition
				}
			}),
			fails: []string{"BucketStore/stale limits change nothing"},
		},
		{
			name: "keeps the caller's charges",
			make: method(func(o *override, good *reference) {
				kept := map[zael.Key]map[string]*zael.Charge{}
				o.take = func(ctx context.Context, now time.Time, w time.Duration, debits []zael.Debit) (time.Time, error) {
					for _, d := range debits {
						kept[d.Key] = map[string]*zael.Charge{}
						for i := range d.Charges {
							kept[d.Key][d.Charges[i].Name] = &d.Charges[i]
						}
					}
					return good.Take(ctx, now, w, debits)
				}
				o.buckets = func(ctx context.Context, now time.Time, keys []zael.Key) (time.Time, []zael.Bucket, error) {
					for _, k := range keys {
						for name, c := range kept[k] {
							good.buckets[k].limits[name] = c.State
						}
					}
					return good.Buckets(ctx, now, keys)
				}
			}),
			fails: []string{"BucketStore/nothing of a debit is kept by reference"},
		},
		{
			name: "errors without a type",
			make: method(func(o *override, good *reference) {
				o.take = func(ctx context.Context, now time.Time, w time.Duration, debits []zael.Debit) (time.Time, error) {
					at, err := good.Take(ctx, now, w, debits)
					if _, bad := err.(*zael.ValidationError); bad { //nolint:errorlint // the reference returns it bare
						err = errors.New("bad argument")
					}
					return at, err
				}
			}),
			fails: []string{"BucketStore/wrong arguments are validation errors"},
		},
		{
			name: "unnamed limits are dropped",
			make: method(func(o *override, good *reference) {
				o.take = func(ctx context.Context, now time.Time, w time.Duration, debits []zael.Debit) (time.Time, error) {
					at, err := good.Take(ctx, now, w, debits)
					if err != nil {
						return at, err
					}
					for _, d := range debits {
						for name := range good.buckets[d.Key].limits {
							if !slices.ContainsFunc(d.Charges, func(c zael.Charge) bool { return c.Name == name }) {
								delete(good.buckets[d.Key].limits, name)
							}
						}
					}
					return at, nil
				}
			}),
			fails: []string{"BucketStore/limits that are not named stay", "BucketStore/two call sites with different limits"},
		},
		{
			name: "a read answers in the order of names",
			make: method(func(o *override, good *reference) {
				o.buckets = func(ctx context.Context, now time.Time, keys []zael.Key) (time.Time, []zael.Bucket, error) {
					keys = slices.SortedFunc(slices.Values(keys), func(a, b zael.Key) int {
						return cmp.Or(cmp.Compare(a.Entity, b.Entity), cmp.Compare(a.Resource, b.Resource))
					})
					return good.Buckets(ctx, now, keys)
				}
			}),
			fails: []string{"BucketStore/a read answers in the order of the keys"},
		},
		{
			name: "limits in no order",
			make: step(func(s *reference) {
				s.read = func(all []zael.LimitState) []zael.LimitState { slices.Reverse(all); return all }
			}),
			fails: []string{"BucketStore/a read answers in the order of the keys"},
		},
		{
			name: "a read of 100",
			make: method(func(o *override, good *reference) {
				o.buckets = func(ctx context.Context, now time.Time, keys []zael.Key) (time.Time, []zael.Bucket, error) {
					at, got, err := good.Buckets(ctx, now, keys)
					for i := 100; i < len(got); i++ {
						got[i].Limits = nil
					}
					return at, got, err
				}
			}),
			fails: []string{"BucketStore/a read of many keys is complete"},
		},
		{
			name: "a read charges",
			make: method(func(o *override, good *reference) {
				o.buckets = func(ctx context.Context, now time.Time, keys []zael.Key) (time.Time, []zael.Bucket, error) {
					at, got, err := good.Buckets(ctx, now, keys)
					for _, b := range got {
						for _, l := range b.Limits {
							l.State.Mark += 1000
							good.buckets[b.Key].limits[l.Name] = l.State
						}
					}
					return at, got, err
				}
			}),
			fails: []string{"BucketStore/a read changes nothing"},
		},
		{
			name: "a read is cached",
			make: method(func(o *override, good *reference) {
				cache := map[zael.Key]zael.Bucket{}
				o.buckets = func(ctx context.Context, now time.Time, keys []zael.Key) (time.Time, []zael.Bucket, error) {
					at, got, err := good.Buckets(ctx, now, keys)
					for i, b := range got {
						if old, ok := cache[b.Key]; ok {
							got[i] = old
						}
						cache[b.Key] = got[i]
					}
					return at, got, err
				}
			}),
			fails: []string{"BucketStore/a read sees every change before it"},
		},
	}
}

// written is a store whose Take spoils what it writes.
func written(spoil func(err error, c *zael.Charge)) func() zael.Store {
	return method(func(o *override, good *reference) {
		o.take = func(ctx context.Context, now time.Time, w time.Duration, debits []zael.Debit) (time.Time, error) {
			at, err := good.Take(ctx, now, w, debits)
			for _, d := range debits {
				for i := range d.Charges {
					spoil(err, &d.Charges[i])
				}
			}
			return at, err
		}
	})
}
