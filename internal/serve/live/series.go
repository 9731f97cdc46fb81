package live

import (
	"strings"
	"sync"
	"time"

	"github.com/zeroae/zael"
)

// Counts are of a minute, or of several.
type Counts struct {
	Admitted, Refused, Degraded, Failed int64
	Tokens                              int64 // that were taken, less what was settled to less
}

func (c *Counts) add(d Counts) {
	c.Admitted += d.Admitted
	c.Refused += d.Refused
	c.Degraded += d.Degraded
	c.Failed += d.Failed
	c.Tokens += d.Tokens
}

// A series has the Counts of each of the last Minutes.
type series struct {
	mu   sync.Mutex
	last int64 // minute since 1970 of the latest count
	ring [Minutes]Counts
}

func minuteOf(t time.Time) int64 { return t.Unix() / 60 }

func (s *series) add(now time.Time, c Counts) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := minuteOf(now)
	s.advance(m)
	if m > s.last-Minutes { // else the clock was set back by an hour
		s.ring[m%Minutes].add(c)
	}
}

// advance empties the minutes up to m that have begun since the last count.
func (s *series) advance(m int64) {
	if m <= s.last {
		return
	}
	for i := max(s.last+1, m-Minutes+1); i <= m; i++ {
		s.ring[i%Minutes] = Counts{}
	}
	s.last = m
}

// minutes returns the counts of the last Minutes before and with that of now, the oldest
// first, and their sum.
func (s *series) minutes(now time.Time) (all [Minutes]Counts, sum Counts) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := max(minuteOf(now), s.last)
	s.advance(m)
	for i := range int64(Minutes) {
		all[i] = s.ring[(m-Minutes+1+i)%Minutes]
		sum.add(all[i])
	}
	return all, sum
}

// idle reports whether all minutes are over in which there was anything.
func (s *series) idle(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return minuteOf(now)-s.last >= Minutes
}

// A seriesKey names a limit of all entities on a resource.
type seriesKey struct{ resource, limit string }

// A limitSeries is a series of a limit.
type limitSeries struct {
	series

	kind zael.Kind // of the limit as it was seen first
}

// seriesOf returns the series of a status's limit, or nil if there is no room for it.
func (r *Recorder) seriesOf(now time.Time, s *zael.Status) *limitSeries {
	key := seriesKey{s.Resource, s.Limit.Name}
	r.mu.RLock()
	known := r.series[key]
	r.mu.RUnlock()
	if known != nil {
		return known
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if known = r.series[key]; known != nil {
		return known
	}
	if len(r.series) >= maxSeries && !r.dropIdle(now) {
		return nil
	}
	// The names may be parts of a longer text, which would be kept with them.
	key = seriesKey{strings.Clone(key.resource), strings.Clone(key.limit)}
	known = &limitSeries{kind: s.Limit.Kind()}
	r.series[key] = known
	return known
}

// dropIdle drops the series in which nothing happened for an hour, and reports whether there
// were any. r.mu is held.
func (r *Recorder) dropIdle(now time.Time) bool {
	minute := minuteOf(now)
	if minute == r.swept {
		return false // at most once a minute
	}
	r.swept = minute
	before := len(r.series)
	for key, s := range r.series {
		if s.idle(now) {
			delete(r.series, key)
		}
	}
	return len(r.series) < before
}
