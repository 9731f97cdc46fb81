package bucket

// A window that others hide never comes into force, and may have the greatest burst or rate. So
// that no wait looks for it in all weeks to come, what does not come into force within two
// years counts as not there.
const (
	sightWeeks = 104
	sightEvery = 52 // weeks, after which it is found again
)

// A scheduleSight is what comes into force within two years, at least.
type scheduleSight struct {
	number int64 // of sightEvery weeks
	burst  int64 // the greatest, in units
	week   int64 // at most so much refills in a week, in units
}

// sight returns what comes into force within two years of an instant.
func (sc *Schedule) sight(at Instant) *scheduleSight {
	number := floorDiv(floorDiv(int64(at), int64(week)), sightEvery)
	if s := sc.seen.Load(); s != nil && s.number == number {
		return s
	}
	s := &scheduleSight{number: number}
	found := make([]bool, len(sc.parts))
	left := len(found)
	for n := number * sightEvery; left > 0 && n < (number+1)*sightEvery+sightWeeks; n++ {
		for _, unix := range sc.changes(Instant(n) * week) {
			part := sc.inForce(unix)
			if found[part] {
				continue
			}
			found[part] = true
			left--
			s.burst, s.week = max(s.burst, sc.parts[part].burst), max(s.week, sc.refillIn(part, week))
		}
	}
	sc.seen.Store(s)
	return s
}

// skip returns an instant before which the refill does not reach a goal: the beginning of a week,
// or start itself.
func (sc *Schedule) skip(start Instant, goal int64) Instant {
	if start > MaxInstant {
		return start
	}
	refill, most := sc.at(start).refill, uint64(sc.sight(start).week)
	if goal <= refill || uint64(goal)-uint64(refill) <= 2*most {
		return start
	}
	weeks := uint64(MaxInstant) // more than there are
	if most > 0 {
		weeks = (uint64(goal)-uint64(refill))/most - 1
	}
	if weeks > uint64((MaxInstant-start)/week) {
		return MaxInstant + 1
	}
	return (Instant(floorDiv(int64(start), int64(week))) + Instant(weeks)) * week
}
