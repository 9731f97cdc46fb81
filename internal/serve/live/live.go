// Package live has what a replica of the daemon has decided of late, in memory of bounded size:
// counts by the minute for an hour, and the entities that are near a limit. It is told by a
// Limiter, as its Observer, and reads no store.
package live

import (
	"crypto/rand"
	"hash/maphash"
	"sync"
	"time"

	"github.com/zeroae/zael"
)

// What is kept at most. With names of 256 bytes all of it is less than 16 MiB.
const (
	Minutes   = 60   // of counts
	maxSeries = 4096 // pairs of a resource and a limit
	shards    = 16
	perShard  = 63 // entities near a limit; about 1000 in all
)

// A Recorder is a zael.Observer that remembers. Its methods may be called concurrently.
type Recorder struct {
	now   func() time.Time
	since time.Time
	id    string
	seed  maphash.Seed

	total series

	mu     sync.RWMutex
	series map[seriesKey]*limitSeries
	swept  int64 // minute since 1970 in which idle series were last dropped

	near [shards]nearShard
}

// New returns a Recorder that has seen nothing before now.
func New(now func() time.Time) *Recorder {
	r := &Recorder{now: now, since: now().UTC().Truncate(time.Millisecond), id: rand.Text()[:8], seed: maphash.MakeSeed(), series: map[seriesKey]*limitSeries{}}
	for i := range r.near {
		r.near[i].entries = map[nearKey]*nearEntry{}
	}
	return r
}

// Decision implements zael.Observer.
func (r *Recorder) Decision(o *zael.Observed) {
	now := r.now()
	c := Counts{}
	switch o.Outcome {
	case zael.OutcomeAdmitted:
		c.Admitted = 1
	case zael.OutcomeRefused, zael.OutcomeNever:
		c.Refused = 1
	case zael.OutcomeDegraded:
		c.Degraded = 1
	case zael.OutcomeUnavailable, zael.OutcomeCanceled, zael.OutcomeDisabled, zael.OutcomeFailed:
		c.Failed = 1
	}
	r.total.add(now, c)
	if o.Decision == nil || o.Decision.Bypassed {
		return
	}
	for i := range o.Decision.Len() {
		s := o.Decision.Status(i)
		r.count(now, &s, o.Decision.Admitted)
		r.observe(now, &s)
	}
}

// count adds a decision to the counts of a limit.
func (r *Recorder) count(now time.Time, s *zael.Status, admitted bool) {
	c := Counts{}
	switch {
	case admitted:
		c.Admitted = 1
		if s.Limit.Kind() != zael.KindSlots { // which are given back
			c.Tokens = s.Requested
		}
	case s.Exceeded:
		c.Refused = 1
	default:
		return // another limit refused
	}
	if series := r.seriesOf(now, s); series != nil {
		series.add(now, c)
	}
}

// Settled implements zael.Observer: it counts what was used more or less than was taken.
func (r *Recorder) Settled(o *zael.Observed) {
	if o.Resource == "" || o.Err != nil || o.Outcome == zael.OutcomeDegraded {
		return
	}
	now := r.now()
	for _, u := range o.Used {
		more := u.Used - u.Taken
		if o.RolledBack {
			more = -u.Taken
		}
		if more == 0 {
			continue
		}
		r.mu.RLock()
		series := r.series[seriesKey{o.Resource, u.Limit}]
		r.mu.RUnlock()
		if series != nil && series.kind != zael.KindSlots {
			series.add(now, Counts{Tokens: more})
		}
	}
}

// StoreCall implements zael.Observer.
func (r *Recorder) StoreCall(zael.StoreOp, time.Duration, error) {}

// Breaker implements zael.Observer.
func (r *Recorder) Breaker(bool) {}

var _ zael.Observer = (*Recorder)(nil)
