package storetest_test

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// brokenTimes have a defect where time goes back or things are forgotten.
func brokenTimes() []brokenStore {
	return []brokenStore{
		{
			name: "time goes back with the caller",
			make: method(func(o *override, good *reference) {
				o.take = func(ctx context.Context, now time.Time, w time.Duration, debits []zael.Debit) (time.Time, error) {
					windBack(good, now, debits)
					return good.Take(ctx, now, w, debits)
				}
			}),
			fails: []string{
				"BucketStore/an older instant gives no tokens", "BucketStore/clocks that take turns give no tokens",
				"BucketStore/callers with clocks 20 ms apart", "BucketStore/random operations against a model",
			},
		},
		{
			name: "an older instant is a new bucket",
			make: method(func(o *override, good *reference) {
				o.take = func(ctx context.Context, now time.Time, w time.Duration, debits []zael.Debit) (time.Time, error) {
					for _, d := range debits {
						if at, err := bucket.At(now); err == nil && at < good.record(d.Key).seen {
							delete(good.buckets, d.Key)
						}
					}
					return good.Take(ctx, now, w, debits)
				}
			}),
			fails: []string{"BucketStore/an older instant gives no tokens"},
		},
		{
			name: "the instant that counted is the epoch",
			make: method(func(o *override, good *reference) {
				o.take = func(ctx context.Context, now time.Time, w time.Duration, debits []zael.Debit) (time.Time, error) {
					_, err := good.Take(ctx, now, w, debits)
					return bucket.Epoch(), err
				}
			}),
			fails: []string{"BucketStore/a take charges every limit"},
		},
		{
			name:  "the latest instant is that of any call",
			make:  method(func(o *override, good *reference) { o.latest = func() time.Time { return good.latest.Time() } }),
			fails: []string{"InstantStore/the latest instant is one that the store was given"},
		},
		{
			name: "the latest instant is in whole seconds",
			make: method(func(o *override, good *reference) {
				o.latest = func() time.Time { return good.LatestInstant().Truncate(time.Second) }
			}),
			fails: []string{"InstantStore/the latest instant is not before the last change of a bucket"},
		},
		{
			name: "full buckets are forgotten with the instant",
			make: step(func(s *reference) {
				s.after = func(s *reference, at bucket.Instant) { forget(s, at) }
			}),
			fails: []string{"BucketStore/forgetting a full bucket gives no tokens"},
		},
		{
			name:  "limits are never forgotten",
			make:  forgetting(func(*reference, *record, bucket.Instant) {}),
			fails: []string{"BucketStore/names that are used once do not add up"},
		},
		{
			name: "of many limits the least used are forgotten",
			make: forgetting(func(s *reference, r *record, _ bucket.Instant) {
				if len(r.limits) > 20 {
					s.forgetLimits(r, func(state bucket.State) bool { return state.Definition.Amount < 10 })
				}
			}),
			fails: []string{"BucketStore/limits in use are not forgotten"},
		},
		{
			name: "limits are forgotten with the instant",
			make: forgetting(func(s *reference, r *record, at bucket.Instant) {
				s.forgetLimits(r, func(state bucket.State) bool { return state.Forgettable(at - idle) })
			}),
			fails: []string{"BucketStore/forgetting a full limit gives no tokens"},
		},
		{
			name: "limits are forgotten with their revisions",
			make: forgetting(func(s *reference, r *record, at bucket.Instant) {
				if s.forgetLimits(r, func(state bucket.State) bool { return state.Full(at - idle) }) {
					s.swept = max(s.swept, at-idle)
				}
			}),
			fails: []string{"BucketStore/a changed limit is remembered for an hour"},
		},
		{
			name: "usage goes with the limits that are forgotten",
			make: step(func(s *reference) {
				good := s.forget
				s.forget = func(s *reference, r *record, at bucket.Instant) {
					before := maps.Clone(r.limits)
					good(s, r, at)
					for name := range before {
						if _, ok := r.limits[name]; !ok {
							for _, record := range s.usage {
								delete(record.Amounts, name)
							}
						}
					}
				}
			}),
			fails: []string{"UsageStore/usage of forgotten limits stays"},
		},
		{
			name: "live buckets are dropped beyond 100",
			make: step(func(s *reference) {
				s.after = func(s *reference, _ bucket.Instant) {
					for k := range s.buckets {
						if len(s.buckets) > 100 {
							delete(s.buckets, k)
						}
					}
				}
			}),
			fails: []string{"BucketStore/live buckets are never dropped", "BucketStore/a read of many keys is complete"},
		},
	}
}

// forgetting is a store that forgets limits in a way of its own.
func forgetting(forget func(s *reference, r *record, at bucket.Instant)) func() zael.Store {
	return step(func(s *reference) { s.forget = forget })
}

// windBack moves the marks of buckets back to now, as a store does that keeps
// tokens and the time of the last call, whichever that was.
func windBack(s *reference, now time.Time, debits []zael.Debit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, err := bucket.At(now)
	if err != nil {
		return
	}
	for _, d := range debits {
		r := s.buckets[d.Key]
		if r == nil || at >= r.seen {
			continue
		}
		for name, state := range r.limits {
			state.Mark -= state.Definition.Drip(r.seen) - state.Definition.Drip(at)
			r.limits[name] = state
		}
		r.seen = at
	}
}

// forget drops the buckets that are full at an instant, and reports whether there
// were any.
func forget(s *reference, at bucket.Instant) bool {
	before := len(s.buckets)
	maps.DeleteFunc(s.buckets, func(_ zael.Key, r *record) bool {
		for _, state := range r.limits {
			if !state.Full(at) {
				return false
			}
		}
		return true
	})
	return len(s.buckets) < before
}

// brokenConcurrency have a defect that shows when calls meet.
func brokenConcurrency() []brokenStore {
	return []brokenStore{
		{
			name: "the last writer wins",
			make: method(func(o *override, good *reference) {
				var m meeting
				o.take = func(ctx context.Context, now time.Time, w time.Duration, debits []zael.Debit) (time.Time, error) {
					return readThenWrite(good, &m, debits, func(s *reference) (time.Time, error) { return s.Take(ctx, now, w, debits) })
				}
			}),
			fails: []string{
				"BucketStore/1000 callers on a limit of 100", "BucketStore/1000 callers on two limits", "BucketStore/callers on many buckets",
				"BucketStore/children never take more than the parent has", "UsageStore/concurrent takes are all counted",
			},
		},
		{
			name: "the last to give back wins",
			make: method(func(o *override, good *reference) {
				var m meeting
				o.adjust = func(ctx context.Context, now time.Time, debits []zael.Debit) (time.Time, error) {
					return readThenWrite(good, &m, debits, func(s *reference) (time.Time, error) { return s.Adjust(ctx, now, debits) })
				}
			}),
			fails: []string{"BucketStore/buckets in opposite order do not lock each other out"},
		},
		{
			name: "limits are charged one after the other",
			make: method(func(o *override, good *reference) {
				var m meeting
				o.take = func(ctx context.Context, now time.Time, w time.Duration, debits []zael.Debit) (at time.Time, err error) {
					for _, d := range debits {
						for i := range d.Charges {
							if at, err = good.Take(ctx, now, w, []zael.Debit{{Key: d.Key, Charges: d.Charges[i : i+1]}}); err != nil {
								return at, err
							}
							m.wait()
						}
					}
					return at, nil
				}
			}),
			fails: []string{"BucketStore/nobody sees a bucket half charged"},
		},
		{
			name: "buckets are locked in the order of the debits",
			make: method(func(o *override, good *reference) {
				var m meeting
				var locks sync.Map // of *sync.Mutex, by key
				o.take = func(ctx context.Context, now time.Time, w time.Duration, debits []zael.Debit) (time.Time, error) {
					for _, d := range debits {
						lock, _ := locks.LoadOrStore(d.Key, &sync.Mutex{})
						mu := lock.(*sync.Mutex)
						mu.Lock()
						defer mu.Unlock()
						m.wait()
					}
					return good.Take(ctx, now, w, debits)
				}
			}),
			fails:    []string{"BucketStore/buckets in opposite order do not lock each other out"},
			patience: time.Second,
		},
		{
			name: "roles lock each other out",
			make: method(func(o *override, good *reference) {
				var m meeting
				var buckets, entities sync.Mutex
				o.take = func(ctx context.Context, now time.Time, w time.Duration, debits []zael.Debit) (time.Time, error) {
					buckets.Lock()
					defer buckets.Unlock()
					m.wait()
					entities.Lock()
					defer entities.Unlock()
					return good.Take(ctx, now, w, debits)
				}
				o.remove = func(ctx context.Context, id string, event zael.AuditEvent) error {
					entities.Lock()
					defer entities.Unlock()
					m.wait()
					buckets.Lock()
					defer buckets.Unlock()
					return good.DeleteEntity(ctx, id, event)
				}
			}),
			fails:    []string{"BucketStore/all methods may be called at once"},
			patience: time.Second,
		},
		{
			name: "a local take that is not answered has charged",
			make: method(func(o *override, good *reference) {
				o.local = func(now time.Time, w time.Duration, debits []zael.Debit) (time.Time, bool, error) {
					_, err := good.Take(context.Background(), now, w, debits)
					return now, err != nil, err
				}
			}),
			fails: []string{"LocalStore/an unanswered local call changes nothing", "LocalStore/a take charges every limit"},
		},
		{
			name: "a local adjust that is not answered has charged",
			make: method(func(o *override, good *reference) {
				o.localAdjust = func(now time.Time, debits []zael.Debit) (time.Time, bool, error) {
					_, err := good.Adjust(context.Background(), now, debits)
					return now, err != nil, err
				}
			}),
			fails: []string{"LocalStore/an unanswered local call changes nothing", "LocalStore/an adjust charges into debt"},
		},
		{
			name: "local adjusts are not counted",
			make: method(func(o *override, good *reference) {
				o.localAdjust = func(now time.Time, debits []zael.Debit) (time.Time, bool, error) {
					before := copyUsage(good)
					at, err := good.Adjust(context.Background(), now, debits)
					good.usage = before
					return at, true, err
				}
			}),
			fails: []string{"LocalStore/local calls are counted as usage"},
		},
		{
			name: "local takes are not counted",
			make: method(func(o *override, good *reference) {
				o.local = func(now time.Time, w time.Duration, debits []zael.Debit) (time.Time, bool, error) {
					before := copyUsage(good)
					at, err := good.Take(context.Background(), now, w, debits)
					good.usage = before
					return at, true, err
				}
			}),
			fails: []string{"LocalStore/local calls are counted as usage"},
		},
		{
			name: "local takes do not wait",
			make: method(func(o *override, good *reference) {
				o.local = func(now time.Time, _ time.Duration, debits []zael.Debit) (time.Time, bool, error) {
					at, err := good.Take(context.Background(), now, 0, debits)
					return at, true, err
				}
			}),
			fails: []string{"LocalStore/a wait reserves what will have refilled"},
		},
	}
}

// A meeting makes calls overlap, so that a race is lost for certain.
type meeting struct {
	mu     sync.Mutex
	next   chan struct{} // closed when another one arrives
	waited time.Duration // in vain, in all
}

// arrive lets the one go that waits. It returns what the next one closes, and whether to wait for it.
func (m *meeting) arrive() (next <-chan struct{}, wait bool) {
	const inAll = 200 * time.Millisecond
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.next != nil {
		close(m.next)
	}
	m.next = make(chan struct{})
	return m.next, m.waited < inAll
}

// wait waits until another one arrives, or it seems that none will.
func (m *meeting) wait() {
	const once = 20 * time.Millisecond
	next, wait := m.arrive()
	if !wait {
		return
	}
	patience := time.NewTimer(once)
	defer patience.Stop()
	select {
	case <-next:
	case <-patience.C:
		m.mu.Lock()
		defer m.mu.Unlock()
		m.waited += once
	}
}

// readThenWrite works on a copy of the buckets and of the usage, and then puts
// those in place of what is there.
func readThenWrite(good *reference, m *meeting, debits []zael.Debit, f func(*reference) (time.Time, error)) (time.Time, error) {
	mine := newReference()
	good.mu.Lock()
	mine.births, mine.latest, mine.swept = good.births, good.latest, good.swept
	good.births += 1 << 40
	for _, d := range debits {
		if r := good.buckets[d.Key]; r != nil {
			mine.buckets[d.Key] = &record{maps.Clone(r.limits), r.seen}
		}
	}
	mine.usage = copyUsage(good)
	good.mu.Unlock()

	at, err := f(mine)
	m.wait()

	good.mu.Lock()
	defer good.mu.Unlock()
	maps.Copy(good.buckets, mine.buckets)
	if err == nil {
		maps.Copy(good.usage, mine.usage)
	}
	return at, err
}

func copyUsage(s *reference) map[usageKey]zael.UsageRecord {
	usage := maps.Clone(s.usage)
	for k, r := range usage {
		r.Amounts = maps.Clone(r.Amounts)
		usage[k] = r
	}
	return usage
}
