package replay

import (
	"container/heap"
	"context"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// A slotBucket counts the slots of one entity.
type slotBucket struct {
	held    int64 // as in the store
	lenient int64 // as they would be if every request had been admitted
}

// slotStats follows slots over all entities.
type slotStats struct {
	least         int64 // number that would have refused nothing
	held, lenient fullest
}

// A fullest is the greatest of the numbers of all entities.
type fullest struct {
	entities map[int64]int // by number
	greatest int64
}

// move notes that the number of an entity has changed.
func (f *fullest) move(from, to int64) {
	if f.entities == nil {
		f.entities = map[int64]int{}
	}
	if f.entities[from]--; f.entities[from] <= 0 {
		delete(f.entities, from)
	}
	f.entities[to]++
	if f.greatest = max(f.greatest, to); f.entities[f.greatest] > 0 {
		return
	}
	f.greatest = 0
	for n := range f.entities {
		f.greatest = max(f.greatest, n)
	}
}

func (s *slotStats) hold(b *slotBucket, n int64) {
	s.held.move(b.held, b.held+n)
	b.held += n
}

func (s *slotStats) holdLenient(b *slotBucket, n int64) {
	s.lenient.move(b.lenient, b.lenient+n)
	b.lenient += n
}

// A release is the end of a request that takes slots.
type release struct {
	at     bucket.Instant
	order  int64
	entity *entityStats
	lease  *zael.Lease // nil if the request was refused
	slots  []int64     // by limit
}

// releases are those to come, the first on top.
type releases []*release

// Len implements heap.Interface.
func (r *releases) Len() int { return len(*r) }

// Less implements heap.Interface.
func (r *releases) Less(i, j int) bool {
	a, b := (*r)[i], (*r)[j]
	return a.at < b.at || a.at == b.at && a.order < b.order
}

// Swap implements heap.Interface.
func (r *releases) Swap(i, j int) { (*r)[i], (*r)[j] = (*r)[j], (*r)[i] }

// Push implements heap.Interface.
func (r *releases) Push(x any) { *r = append(*r, x.(*release)) } //nolint:forcetypeassert // only releases are pushed

// Pop implements heap.Interface.
func (r *releases) Pop() any {
	last := (*r)[len(*r)-1]
	*r = (*r)[:len(*r)-1]
	return last
}

// releaseUntil ends the requests that are over by an instant.
func (p *replayer) releaseUntil(ctx context.Context, at bucket.Instant) error {
	for len(p.releases) > 0 && p.releases[0].at <= at {
		r := heap.Pop(&p.releases).(*release) //nolint:forcetypeassert // as above
		_, bins := p.series.at(r.at)
		for i := range p.limits {
			s, b := p.limits[i].slots, r.entity.buckets[i].slots
			if s == nil || r.slots[i] == 0 {
				continue
			}
			s.holdLenient(b, -r.slots[i])
			if r.lease != nil {
				s.hold(b, -r.slots[i])
			}
			bins[i].level = max(bins[i].level, s.held.greatest)
			bins[i].lenient = max(bins[i].lenient, s.lenient.greatest)
		}
		if r.lease == nil {
			continue
		}
		p.now = r.at.Time()
		if err := r.lease.Commit(ctx); err != nil {
			return err
		}
	}
	return nil
}

// holdSlots counts the slots of a request until its end.
func (p *replayer) holdSlots(r *request, entity *entityStats, lease *zael.Lease, end bucket.Instant, bins []limitBin) {
	held := &release{at: end, order: p.requests, entity: entity, lease: lease, slots: make([]int64, len(p.limits))}
	for i := range p.limits {
		s, b := p.limits[i].slots, entity.buckets[i].slots
		if s == nil || r.take[i] == 0 {
			continue
		}
		held.slots[i] = r.take[i]
		s.holdLenient(b, r.take[i])
		s.least = max(s.least, b.lenient)
		if lease != nil {
			s.hold(b, r.take[i])
			p.limits[i].peak = max(p.limits[i].peak, b.held)
		}
		bins[i].level = max(bins[i].level, s.held.greatest)
		bins[i].lenient = max(bins[i].lenient, s.lenient.greatest)
	}
	heap.Push(&p.releases, held)
}
