package replay

import (
	"time"

	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/saturate"
)

// maxBins bounds a series.
const maxBins = 720

// A series counts what happened over time, in bins of equal width that begin at
// multiples of it. When there would be more than maxBins, neighbours are merged:
// each width is a multiple of the one before.
type series struct {
	limits int // their number
	level  func(limit int, at bucket.Instant) (level, lenient int64)

	width     int   // index of binWidth
	first     int64 // number of the first bin, counted from the epoch
	bins      []bin
	limitBins []limitBin // of each limit in the first bin, then in the second, ...
}

// A bin counts the requests in a stretch of time.
type bin struct {
	requests, admitted, waited int64
}

// A limitBin counts what concerns one limit in a bin.
type limitBin struct {
	demand, admitted int64 // tokens
	refused          int64 // requests
	level            int64 // the highest, of the fullest entity, in units
	lenient          int64 // the same of slots, if every request had been admitted
}

// binWidth returns the i-th width, from 1 ms to 30 days.
func binWidth(i int) time.Duration {
	const day = 24 * time.Hour
	return [...]time.Duration{
		time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond,
		time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second,
		time.Minute, 5 * time.Minute, 10 * time.Minute, 30 * time.Minute,
		time.Hour, 6 * time.Hour, 12 * time.Hour, day, 5 * day, 30 * day,
	}[i]
}

func (s *series) binWidth() time.Duration { return binWidth(s.width) }

// start returns when bin i begins.
func (s *series) start(i int) bucket.Instant {
	return bucket.Instant((s.first + int64(i)) * int64(s.binWidth()))
}

// at returns the bin of an instant, which must not be before that of the last call.
// Bins in between are added with the level at their start.
func (s *series) at(at bucket.Instant) (*bin, []limitBin) {
	number := floorDiv(int64(at), int64(s.binWidth()))
	if len(s.bins) == 0 {
		s.first = number
		s.add()
	}
	for number-s.first >= maxBins {
		s.widen()
		number = floorDiv(int64(at), int64(s.binWidth()))
	}
	for int64(len(s.bins))-1 < number-s.first {
		s.add()
		last := len(s.bins) - 1
		for limit := range s.limits {
			b := s.limitBin(last, limit)
			b.level, b.lenient = s.level(limit, s.start(last))
		}
	}
	last := len(s.bins) - 1
	return &s.bins[last], s.limitBins[last*s.limits:]
}

func (s *series) add() {
	s.bins = append(s.bins, bin{})
	s.limitBins = append(s.limitBins, make([]limitBin, s.limits)...)
}

func (s *series) limitBin(i, limit int) *limitBin { return &s.limitBins[i*s.limits+limit] }

// widen merges bins into those of the next width.
func (s *series) widen() {
	factor := int64(binWidth(s.width+1) / binWidth(s.width))
	first := floorDiv(s.first, factor)
	merged := 0
	for from := range s.bins {
		to := int(floorDiv(s.first+int64(from), factor) - first)
		if to == merged { // the first that goes there
			s.bins[to] = s.bins[from]
			copy(s.limitBins[to*s.limits:(to+1)*s.limits], s.limitBins[from*s.limits:])
			merged++
			continue
		}
		s.bins[to].add(s.bins[from])
		for limit := range s.limits {
			s.limitBin(to, limit).add(*s.limitBin(from, limit))
		}
	}
	s.width++
	s.first = first
	s.bins, s.limitBins = s.bins[:merged], s.limitBins[:merged*s.limits]
}

func (b *bin) add(other bin) {
	b.requests += other.requests
	b.admitted += other.admitted
	b.waited += other.waited
}

func (b *limitBin) add(other limitBin) {
	b.demand = saturate.Add(b.demand, other.demand)
	b.admitted = saturate.Add(b.admitted, other.admitted)
	b.refused += other.refused
	b.level = max(b.level, other.level)
	b.lenient = max(b.lenient, other.lenient)
}

func floorDiv(a, b int64) int64 {
	quotient := a / b
	if a%b < 0 {
		quotient--
	}
	return quotient
}
