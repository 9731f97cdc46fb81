package live

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/decimal"
)

// A Snapshot is what a replica knows. Its lists of numbers are of the last Minutes, the oldest
// first and that of now the last.
type Snapshot struct {
	Replica    string    `json:"replica"` // a random id
	Since      time.Time `json:"since"`   // when the replica began to remember
	Now        time.Time `json:"now"`
	Total      *Totals   `json:"total"`  // of all requests; nil for who may not see them
	Limits     []Series  `json:"limits"` // those that refused most first, then those that admitted most
	MoreLimits int       `json:"more_limits"`
	Near       []Near    `json:"near"` // limits of entities, those of which the least is left first
	MoreNear   int       `json:"more_near"`
}

// Totals are the numbers of requests, by what came of them.
type Totals struct {
	Admitted []int64 `json:"admitted"`
	Refused  []int64 `json:"refused"`
	Degraded []int64 `json:"degraded"`
	Failed   []int64 `json:"failed"`
}

// A Series is of a limit of all entities on a resource.
type Series struct {
	Resource    string    `json:"resource"`
	Limit       string    `json:"limit_name"`
	Kind        zael.Kind `json:"kind"`
	SumAdmitted int64     `json:"sum_admitted"`
	SumRefused  int64     `json:"sum_refused"`
	SumTokens   int64     `json:"sum_tokens"`
	Admitted    []int64   `json:"admitted"`
	Refused     []int64   `json:"refused"` // by this limit
	Tokens      []int64   `json:"tokens"`  // taken, less what was settled to less; none of slots
}

// A Near is a limit of an entity that is near its end, or refused a moment ago, as the
// replica knows it: others may have taken since.
type Near struct {
	zael.Status

	SeenSecondsAgo float64
	Refused        int64 // in this minute and the one before
}

// MarshalJSON returns the status with seen_seconds_ago and refused.
func (n Near) MarshalJSON() ([]byte, error) {
	b := n.AppendJSON(nil)
	b = append(b[:len(b)-1], `,"seen_seconds_ago":`...)
	b = strconv.AppendFloat(b, n.SeenSecondsAgo, 'f', -1, 64)
	b = strconv.AppendInt(append(b, `,"refused":`...), n.Refused, 10)
	return append(b, '}'), nil
}

// A View says what of a Snapshot is wanted.
type View struct {
	Most     int               // of each list
	Resource string            // only of this resource; empty: all
	All      bool              // what concerns more than one entity too
	Covers   func(string) bool // the entities that may be seen
}

// Snapshot returns what is known now.
func (r *Recorder) Snapshot(v View) Snapshot {
	now := r.now()
	s := Snapshot{Replica: r.id, Since: r.since, Now: now.UTC().Truncate(time.Millisecond), Limits: []Series{}}
	if v.All {
		all, _ := r.total.minutes(now)
		s.Total = &Totals{
			numbers(&all, func(c *Counts) int64 { return c.Admitted }), numbers(&all, func(c *Counts) int64 { return c.Refused }),
			numbers(&all, func(c *Counts) int64 { return c.Degraded }), numbers(&all, func(c *Counts) int64 { return c.Failed }),
		}
		s.Limits, s.MoreLimits = r.limits(now, &v)
	}
	s.Near, s.MoreNear = r.nearest(now, &v)
	return s
}

func numbers(all *[Minutes]Counts, of func(*Counts) int64) []int64 {
	list := make([]int64, Minutes)
	for i := range all {
		list[i] = of(&all[i])
	}
	return list
}

// limits returns the first of the series, and how many more there are.
func (r *Recorder) limits(now time.Time, v *View) (some []Series, more int) {
	type summed struct {
		key seriesKey
		of  *limitSeries
		sum Counts
	}
	var all []summed
	r.mu.RLock()
	for key, s := range r.series {
		if v.Resource == "" || key.resource == v.Resource {
			all = append(all, summed{key: key, of: s})
		}
	}
	r.mu.RUnlock()
	kept := all[:0]
	for _, s := range all {
		if _, s.sum = s.of.minutes(now); s.sum != (Counts{}) {
			kept = append(kept, s)
		}
	}
	slices.SortFunc(kept, func(a, b summed) int {
		return cmp.Or(cmp.Compare(b.sum.Refused, a.sum.Refused), cmp.Compare(b.sum.Admitted, a.sum.Admitted),
			strings.Compare(a.key.resource, b.key.resource), strings.Compare(a.key.limit, b.key.limit))
	})
	some = []Series{}
	for _, s := range kept[:min(v.Most, len(kept))] {
		minutes, sum := s.of.minutes(now)
		some = append(some, Series{
			Resource: s.key.resource, Limit: s.key.limit, Kind: s.of.kind,
			SumAdmitted: sum.Admitted, SumRefused: sum.Refused, SumTokens: sum.Tokens,
			Admitted: numbers(&minutes, func(c *Counts) int64 { return c.Admitted }), Refused: numbers(&minutes, func(c *Counts) int64 { return c.Refused }),
			Tokens: numbers(&minutes, func(c *Counts) int64 { return c.Tokens }),
		})
	}
	return some, len(kept) - len(some)
}

// nearest returns the first of the limits that are near their end, and how many more there
// are.
func (r *Recorder) nearest(now time.Time, v *View) (some []Near, more int) {
	all := []Near{}
	for i := range r.near {
		all = r.near[i].appendTo(all, now, v)
	}
	slices.SortFunc(all, func(a, b Near) int {
		return cmp.Or(cmp.Compare(shareLeft(&a.Status), shareLeft(&b.Status)), cmp.Compare(b.Refused, a.Refused),
			strings.Compare(a.Entity, b.Entity), strings.Compare(a.Resource, b.Resource), strings.Compare(a.Limit.Name, b.Limit.Name))
	})
	return all[:min(v.Most, len(all))], max(0, len(all)-v.Most)
}

// appendTo appends what is near, and forgets what has recovered.
func (sh *nearShard) appendTo(all []Near, now time.Time, v *View) []Near {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for key, e := range sh.entries {
		status, ok := e.at(now)
		if !ok {
			delete(sh.entries, key)
			continue
		}
		if v.Resource != "" && key.resource != v.Resource || !v.Covers(key.entity) {
			continue
		}
		status.Entity, status.Resource, status.Limit.Name = key.entity, key.resource, key.limit
		e.advance(minuteOf(now))
		all = append(all, Near{status, decimal.Seconds(max(0, now.Sub(e.seen))), e.counts[0] + e.counts[1]})
	}
	return all
}
