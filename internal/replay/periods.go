package replay

import (
	"time"

	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/saturate"
)

// A periodBucket follows a quota or session of one entity.
type periodBucket struct {
	state   bucket.State // as in the store
	lenient bucket.State // as it would be if every request had been admitted
	asked   int64        // tokens, in the period that began at askedIn
	askedIn bucket.Instant

	// Of a quota that carries debt.
	settled int64
	debts   []debtOrigin
}

// A debtOrigin is a period from which debt may have come.
type debtOrigin struct {
	number int64 // of the period
	before int64 // tokens settled before it
}

// periodStats follows a quota or session over all entities.
type periodStats struct {
	definition bucket.Definition
	least      int64 // amount that would have refused nothing; above bucket.MaxAmount if none is enough
	fullest    bucket.State
	series     periodSeries
	first      bucket.Instant // start of the first period
}

func newPeriodStats(d bucket.Definition, several bool) *periodStats {
	p := &periodStats{definition: d, least: 1}
	if several && d.Kind == bucket.Session {
		p.series.every = d.Period
	}
	return p
}

func (p *periodStats) newBucket(at bucket.Instant) *periodBucket {
	lenient := p.definition
	lenient.Flags |= bucket.Soft
	return &periodBucket{
		state:   bucket.State{}.Redefine(p.definition, at, 1),
		lenient: bucket.State{}.Redefine(lenient, at, 1),
	}
}

// settle returns a state after a charge of take that is settled at once.
func settle(s bucket.State, at bucket.Instant, take, settled int64) (bucket.State, error) {
	s, err := s.Charge(at, take)
	switch {
	case err != nil || take == settled:
		return s, err
	case take < settled:
		return s.Charge(at, settled-take)
	}
	return s.Give(at, take-settled, s.Receipt()), nil
}

// observe raises the least amount to what a request needs.
func (p *periodStats) observe(b *periodBucket, at bucket.Instant, take, settled int64) {
	if p.least > bucket.MaxAmount {
		return
	}
	if p.definition.Flags&bucket.CarryDebt != 0 {
		p.observeCarried(b, at, take, settled)
		return
	}
	used := b.lenient.UsedAt(at)
	p.raise(saturate.Add(used, take))
	next, err := settle(b.lenient, at, take, settled)
	if err != nil {
		p.least = bucket.MaxAmount + 1
		return
	}
	b.lenient = next
}

func (p *periodStats) raise(amount int64) { p.least = max(p.least, min(amount, bucket.MaxAmount+1)) }

// observeCarried is observe where debt goes on in the next periods. An amount refuses
// nothing exactly if, for each earlier period of the entity, what was settled since it
// began, and the request, are no more than the amounts of the periods since then. A
// period of which the debt is paid, under the least amount so far, need not be looked
// at any more: a greater amount pays it too.
func (p *periodStats) observeCarried(b *periodBucket, at bucket.Instant, take, settled int64) {
	calendar := p.definition.Calendar
	start, _ := calendar.Period(at)
	number := int64(0)
	if start > p.first {
		number = calendar.Starts(p.first, start)
	}
	if last := len(b.debts) - 1; last < 0 || b.debts[last].number < number {
		left := b.debts[:0]
		for _, o := range b.debts {
			if compareProducts(uint64(b.settled-o.before), 1, uint64(p.least), uint64(number-o.number)) > 0 {
				left = append(left, o)
			}
		}
		b.debts = append(left, debtOrigin{number, b.settled})
	}
	for _, o := range b.debts {
		tokens, periods := saturate.Add(b.settled-o.before, take), number-o.number+1
		p.raise((tokens-1)/periods + 1)
	}
	b.settled = saturate.Add(b.settled, settled)
}

// charge follows the bucket of an admitted request in the store, and returns what is
// then used.
func (p *periodStats) charge(b *periodBucket, at bucket.Instant, take, settled int64) (used int64) {
	next, err := settle(b.state, at, take, settled)
	if err != nil { // the store has charged it: it does not happen
		return 0
	}
	b.state = next
	used = b.state.UsedAt(at)
	if p.fullest.Absent() || used >= p.fullest.UsedAt(at) {
		p.fullest = b.state
	}
	return used
}

// count adds what was asked for to the period that is on.
func (p *periodStats) count(b *periodBucket, at bucket.Instant, asked int64, refused bool) {
	start, end, ok := b.state.Period(at)
	if !ok {
		return // a session that was not begun: nothing was admitted
	}
	if b.askedIn != start || b.asked == 0 {
		b.asked, b.askedIn = 0, start
	}
	b.asked = saturate.Add(b.asked, asked)
	if p.series.every > 0 {
		start = bucket.Instant(floorDiv(int64(start), int64(p.series.every)) * int64(p.series.every))
		end = start + bucket.Instant(p.series.every)
	}
	e := p.series.at(start, end)
	e.asked, e.used = max(e.asked, b.asked), max(e.used, b.state.UsedAt(at))
	if refused {
		e.refused++
	}
}

// level returns what is used of the fullest bucket at an instant after the last request.
func (p *periodStats) level(at bucket.Instant) int64 {
	if p.fullest.Absent() {
		return 0
	}
	return max(0, p.fullest.UsedAt(at))
}

// maxPeriods bounds a periodSeries.
const maxPeriods = 720

// A periodSeries is the use of a limit by period. When there would be more than maxPeriods,
// neighbours are merged.
type periodSeries struct {
	every   time.Duration // periods are replaced by stretches of this length; 0: they are not
	each    int           // how many periods an entry has; 0 is 1
	entries []periodEntry // without gaps, in order
}

// A periodEntry is the use in one period, or the highest in each of several. It has none if
// nothing was asked.
type periodEntry struct {
	start, end  bucket.Instant
	periods     int
	asked, used int64 // tokens, of the entity with the most
	refused     int64 // requests, of all entities
}

// at returns the entry of a period.
func (s *periodSeries) at(start, end bucket.Instant) *periodEntry {
	for i := len(s.entries) - 1; i >= 0; i-- {
		if e := &s.entries[i]; e.start <= start && start < e.end {
			return e
		}
	}
	if n := len(s.entries); n > 0 {
		if s.entries[0].start > start {
			return &s.entries[0] // of a session that began before the first stretch
		}
		if last := s.entries[n-1].end; last < start {
			s.add(last, start, 0)
		}
	}
	s.add(start, end, 1)
	return &s.entries[len(s.entries)-1]
}

// add adds a period, or the time between two of them, in which nothing was asked.
func (s *periodSeries) add(start, end bucket.Instant, periods int) {
	if n := len(s.entries); n > 0 && s.entries[n-1].periods < s.each {
		s.entries[n-1].end = end
		s.entries[n-1].periods += periods
		return
	}
	if len(s.entries) == maxPeriods {
		s.each = 2 * max(1, s.each)
		for i := range maxPeriods / 2 {
			a, b := s.entries[2*i], s.entries[2*i+1]
			s.entries[i] = periodEntry{
				a.start, b.end, a.periods + b.periods,
				max(a.asked, b.asked), max(a.used, b.used), a.refused + b.refused,
			}
		}
		s.entries = s.entries[:maxPeriods/2]
	}
	s.entries = append(s.entries, periodEntry{start: start, end: end, periods: periods})
}
