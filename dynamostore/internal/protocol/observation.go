package protocol

import (
	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/saturate"
)

// An Observation is a bucket as this process last saw it. It chooses the guesses of the next
// write and decides nothing: without one, or by an outdated one, a write may take a second
// call. It does not change.
type Observation struct {
	Record *Record        // not nil
	At     bucket.Instant // of the record
	Latest bucket.Instant // the latest seen of the bucket

	owed   []bucket.Count // to the counts of overdrawn takes: see overdrawn.go
	trends []trend        // of each limit of the record; nil if nobody else was seen
}

// A trend is what others do to a limit. When the drip has passed the mark last seen, it
// tells on which side of the drip the mark is more likely to be by now.
type trend struct {
	flow float64 // units in a nanosecond that others take, as last seen
	// The share of times, of late, that the mark lay above the drip: when flow
	// put it below, and when flow put it above.
	above [2]float64
}

// alone returns the trend of a limit that nobody else was seen to take from.
func alone() trend { return trend{above: [2]float64{0, 1}} }

// shareWeight is the weight of one more time in the shares of a trend.
const shareWeight = 1. / 16

// Next returns the Observation of a record at an instant, after o, which is nil if the bucket
// was not seen before. own are the charges of this process on the way from o's record to r.
func (o *Observation) Next(r *Record, at bucket.Instant, own []zael.Charge) *Observation {
	next := &Observation{Record: r, At: at, Latest: at}
	if o != nil {
		next.Latest = max(at, o.Latest)
		if r.birth == o.Record.birth {
			next.owed = o.owed
		}
		next.trends = o.nextTrends(r, at, own)
	}
	return next
}

func (o *Observation) nextTrends(r *Record, at bucket.Instant, own []zael.Charge) []trend {
	if r.birth != o.Record.birth || len(r.limits) != len(o.Record.limits) {
		return nil
	}
	if at <= o.At {
		return o.trends
	}
	all := make([]trend, len(r.limits))
	some := false
	for i := range r.limits {
		all[i] = alone()
		now, was := &r.limits[i], &o.Record.limits[i]
		if now.text != was.text || now.name != was.name || !drips(&now.state.Definition) {
			continue // what is used of a quota does not drain
		}
		if o.trends != nil {
			all[i] = o.trends[i]
		}
		mark, drip := now.state.Mark, now.state.Definition.Drip(at)
		for j := range own {
			if own[j].Name == now.name {
				mark -= own[j].Amount * now.state.Definition.Unit()
			}
		}
		if was.state.Mark <= drip {
			share := &all[i].above[index(o.expectedMark(i, at) > drip)]
			*share += (float64(index(mark > drip)) - *share) * shareWeight
		}
		others := max(0, mark-max(was.state.Mark, drip)) // what has drained meanwhile is not seen
		all[i].flow = (all[i].flow + float64(others)/float64(at-o.At)) / 2
		some = some || all[i] != alone()
	}
	if !some {
		return nil
	}
	return all
}

func index(is bool) int {
	if is {
		return 1
	}
	return 0
}

// expected returns the record as it is expected now; nil if that is as it was seen.
func (o *Observation) expected(now bucket.Instant) *Record {
	if o.trends == nil || now <= o.At {
		return nil
	}
	r := *o.Record
	r.limits = append([]limit(nil), r.limits...)
	for i := range r.limits {
		l := &r.limits[i]
		if !drips(&l.state.Definition) {
			continue
		}
		mark, drip := o.expectedMark(i, now), l.state.Definition.Drip(now)
		switch {
		case l.state.Mark > drip: // and it has not fallen
		case o.trends[i].above[index(mark > drip)] > 0.5:
			mark = max(mark, drip+1)
		default:
			mark = min(mark, drip)
		}
		l.state.Mark = mark
	}
	return &r
}

// expectedMark returns the mark of a limit by now if others go on as before: at most the
// burst above the drip, unless it was seen higher.
func (o *Observation) expectedMark(i int, now bucket.Instant) int64 {
	l := &o.Record.limits[i]
	burst := l.state.Definition.Burst * l.state.Definition.Unit()
	top := saturate.Add(l.state.Definition.Drip(now), burst)
	if o.trends == nil || now <= o.At || l.state.Mark >= top {
		return l.state.Mark
	}
	more := min(o.trends[i].flow*float64(now-o.At), float64(burst))
	return min(saturate.Add(max(l.state.Mark, l.state.Definition.Drip(o.At)), int64(more)), top)
}

// drips reports whether a limit refills at a constant pace.
func drips(d *bucket.Definition) bool { return d.Kind == bucket.Rate && d.Schedule == nil }
