package replay

import (
	"time"

	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/saturate"
)

// maxBins bounds a series.
const maxBins = 720

// A series counts what happened over time, in bins of one width that begin at
// multiples of it. When they would become too many, neighbours are merged: the
// widths are so chosen that each is a multiple of the one before.
type series struct {
	width int // index of widths
	first int64
	bins  []bin
	used  []use // of the limits in each bin, bin after bin
	n     int   // limits
}

// A bin is a stretch of time.
type bin struct {
	requests, admitted, waited int64
}

// A use is one limit in one bin.
type use struct {
	demand, admitted int64 // tokens
	refused          int64 // requests
	level            int64 // the highest, of the busiest entity, in units
}

// binWidth is the i-th of the widths: 1 ms to 30 days.
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

// start is when bin i begins.
func (s *series) start(i int) bucket.Instant {
	return bucket.Instant((s.first + int64(i)) * int64(s.binWidth()))
}

// at is the last bin, after those were added that reach to an instant, which
// must not be before any other. level tells a limit's level at an instant
// since the last row.
func (s *series) at(at bucket.Instant, level func(limit int, at bucket.Instant) int64) (*bin, []use) {
	index := floorDiv(int64(at), int64(s.binWidth()))
	if len(s.bins) == 0 {
		s.first = index
		s.add()
	}
	for index-s.first >= maxBins {
		s.merge()
		index = floorDiv(int64(at), int64(s.binWidth()))
	}
	for int64(len(s.bins))-1 < index-s.first {
		s.add()
		start := s.start(len(s.bins) - 1)
		for limit := range s.n {
			s.last()[limit].level = level(limit, start)
		}
	}
	return &s.bins[len(s.bins)-1], s.last()
}

func (s *series) add() {
	s.bins = append(s.bins, bin{})
	for range s.n {
		s.used = append(s.used, use{})
	}
}

func (s *series) last() []use { return s.used[len(s.used)-s.n:] }

func (s *series) use(i, limit int) *use { return &s.used[i*s.n+limit] }

// merge takes the next width.
func (s *series) merge() {
	factor := int64(binWidth(s.width+1) / binWidth(s.width))
	first := floorDiv(s.first, factor)
	count := 0
	for i := range s.bins {
		to := int(floorDiv(s.first+int64(i), factor) - first)
		b := s.bins[i]
		if to == count {
			s.bins[to] = b
			copy(s.used[to*s.n:(to+1)*s.n], s.used[i*s.n:(i+1)*s.n])
			count++
			continue
		}
		s.bins[to].add(b)
		for limit := range s.n {
			s.use(to, limit).add(*s.use(i, limit))
		}
	}
	s.width++
	s.first = first
	s.bins, s.used = s.bins[:count], s.used[:count*s.n]
}

func (b *bin) add(other bin) {
	b.requests += other.requests
	b.admitted += other.admitted
	b.waited += other.waited
}

func (u *use) add(other use) {
	u.demand = saturate.Add(u.demand, other.demand)
	u.admitted = saturate.Add(u.admitted, other.admitted)
	u.refused += other.refused
	u.level = max(u.level, other.level)
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
