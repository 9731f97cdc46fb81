package line

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/zeroae/zael/bucket"
)

// When to take a place, and how far ahead. The constants were fitted by
// simulation to loads of 1 to 200 processes.
const (
	windowShare = 4                      // a process holds places for one in windowShare of its queue
	fewWaiters  = 4                      // below it, how far ahead depends on patience
	minAhead    = 100 * time.Millisecond // that a place may be taken ahead
	ageShare    = 0.03                   // of the head's age, that a place may be taken ahead for few
	othersFor   = 2 * time.Second        // that a write by others tells that there are others
	maxRetry    = 500 * time.Millisecond // between two tries among others
	minAge      = 20 * time.Millisecond  // of the head, for the time of retries
	firstEager  = 20.0
	maxEager    = 500.0
	minEager    = 0.02
	eagerGrowth = 1.1  // what eager grows by at a take
	eagerDecay  = 0.93 // and shrinks by at a refusal
	roundTrips  = 3    // that make "near"
	flightShare = 4    // the weight of a call in the mean is one in flightShare
	maxPlanned  = 1000 // callers without a place that are looked at for one take
	offsetShare = 16   // the same, of the difference of clocks where it grows
)

// near is the distance at which a place is taken although the window is full:
// fast limits need it.
func (q *queue[K]) near() time.Duration {
	return max(q.line.config.Near, roundTrips*q.flight)
}

// urgent reports whether a caller with a rest of its time has to have a place
// soon or not at all, at a delay of the line.
func urgent(delay, rest time.Duration) bool { return delay >= rest/2 }

// far returns how far ahead the first token of a caller may be taken.
func (q *queue[K]) far(w *waiter, at bucket.Instant, now time.Time) time.Duration {
	rest := w.until.Sub(now)
	n := q.waiting()
	if n >= fewWaiters || urgent(q.delay(at), rest) {
		return rest
	}
	age := now.Sub(w.came)
	holds := min(age, q.line.patience.holds(n, age), time.Duration(ageShare*float64(age)))
	return min(rest, max(minAhead, 2*q.flight, holds))
}

// ahead returns far, and the time in which the rest of the tokens refill. A caller
// that asks for none is served by the answer itself, and not later.
func (q *queue[K]) ahead(w *waiter, at bucket.Instant, now time.Time) time.Duration {
	if w.empty() {
		return 0
	}
	return max(0, min(w.until.Sub(now), q.far(w, at, now)+q.spacing(w.amounts)))
}

// A step is what run does next.
type step struct {
	take    []int64       // amounts to take, for batch
	batch   []*waiter     // callers that the take is for
	ahead   time.Duration // of the take
	give    place         // to give back
	sleep   time.Duration // until then nothing is to be done, unless something changes
	theEnd  bool
	instant bucket.Instant
}

const forever = time.Duration(math.MaxInt64)

// run serves the queue until nobody is in it and nothing is left to be used.
func (q *queue[K]) run() {
	defer q.line.end(q)
	timer := time.NewTimer(forever)
	defer timer.Stop()
	for {
		s := q.next()
		switch {
		case s.theEnd:
			return
		case s.take != nil || s.give.stretches != nil:
			q.line.loops.Go(func() { q.call(&s) })
		}
		timer.Reset(s.sleep)
		select {
		case <-q.wake:
		case <-timer.C:
		}
	}
}

// next hands out what is ready, and says what to do then.
func (q *queue[K]) next() step {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.serve()
	s := step{sleep: q.nextReady()}
	if !q.asking && q.waiting() > 0 {
		q.plan(&s)
	}
	if !q.asking && q.waiting() == 0 && s.take == nil { // plan may have refused the last
		q.windUp(&s)
	}
	if s.take != nil || s.give.stretches != nil {
		q.asking = true
		q.base, q.since = q.line.config.Now(), time.Now()
		s.instant = q.base
	}
	if s.theEnd {
		q.ended = true
	}
	return s
}

// nextReady returns the time until a place can be handed out, or is void.
func (q *queue[K]) nextReady() time.Duration {
	sleep, at, now := forever, q.now(), time.Now()
	for _, p := range q.places {
		if w, ready := q.heir(p, at, now); w != nil {
			sleep = min(sleep, time.Duration(ready-at))
		}
		sleep = min(sleep, p.void(q.parts, at))
	}
	return max(0, sleep)
}

// windUp gives back the places that end the line when nobody is left, and ends
// the queue when there is no place any more.
func (q *queue[K]) windUp(s *step) {
	for i, p := range slices.Backward(q.places) {
		if p.ends(q.known) {
			s.give = p
			q.places = slices.Delete(q.places, i, i+1) // nobody may use it meanwhile
			return
		}
	}
	s.theEnd = len(q.places) == 0 || q.closed
}

// plan refuses callers at the head of the queue that cannot fit in time any more, and
// chooses the next take.
func (q *queue[K]) plan(s *step) {
	at, now := q.now(), time.Now()
	uncovered, _ := q.cover(maxPlanned)
	for len(uncovered) > 0 && q.due(uncovered[0].amounts, at) > uncovered[0].until.Sub(now) {
		w := uncovered[0]
		uncovered = uncovered[1:]
		q.finish(w, Grant{}, &RefusedError{At: at, States: slices.Clone(q.known)})
	}
	if len(uncovered) == 0 {
		return
	}
	head := uncovered[0]
	ahead := q.ahead(head, at, now)
	if q.full(head, at, now) {
		ahead = min(ahead, q.near())
	}
	if wait := q.pause(head, q.due(head.amounts, at)-ahead, now); wait > 0 {
		s.sleep = min(s.sleep, wait)
		return
	}
	q.formTake(s, uncovered, ahead, at, now)
}

// full reports whether no place may be taken for a caller, unless it is near.
func (q *queue[K]) full(w *waiter, at bucket.Instant, now time.Time) bool {
	return q.scratch.held >= q.window() && !urgent(q.delay(at), w.until.Sub(now))
}

func (q *queue[K]) window() int { return (q.waiting() + windowShare - 1) / windowShare }

// pause returns how long to wait before a take for the head, which fits after wait. A
// process that is alone takes at that instant. Among others it waits a random time more,
// less for an older head, so that not all come at once; just after an answer it takes
// what fits without waiting.
func (q *queue[K]) pause(head *waiter, wait time.Duration, now time.Time) time.Duration {
	fresh := q.fresh
	q.fresh = false
	if wait <= 0 && fresh || !q.others.After(now) {
		q.retry = time.Time{}
		return wait
	}
	if q.retry.IsZero() || wait > 0 && !q.retry.After(now) {
		mean := 1 / (q.eager * max(minAge, now.Sub(head.came)).Seconds()) // s
		jitter := min(maxRetry.Seconds(), q.random.ExpFloat64()*mean)
		q.retry = now.Add(wait + time.Duration(jitter*float64(time.Second)))
	}
	return q.retry.Sub(now)
}

// formTake makes a take for the head and for the callers behind it that fit too, at most a
// burst. Callers beyond the window join only if they are near; as the known state may be
// old, the take then reaches no further ahead than that.
func (q *queue[K]) formTake(s *step, uncovered []*waiter, ahead time.Duration, at bucket.Instant, now time.Time) {
	s.take, s.ahead = make([]int64, len(q.parts)), ahead
	room := q.window() - q.scratch.held
	for _, w := range uncovered {
		sum := slices.Clone(s.take)
		for j := range sum {
			sum[j] += w.amounts[j]
		}
		if len(s.batch) > 0 {
			if w.empty() || !q.withinBurst(sum) {
				break
			}
			due, rest := q.due(sum, at), w.until.Sub(now)
			reach := min(rest, max(s.ahead, q.ahead(w, at, now)))
			if len(s.batch) >= room && !urgent(q.delay(at), w.until.Sub(now)) {
				reach = min(rest, q.near())
			}
			if due > reach {
				break
			}
			s.ahead = reach
		}
		s.take, s.batch = sum, append(s.batch, w)
		if w.empty() {
			break
		}
	}
}

// withinBurst reports whether one take can have amounts: at most a burst of each part.
func (q *queue[K]) withinBurst(amounts []int64) bool {
	for i, n := range amounts {
		if n > q.parts[i].Definition.Burst {
			return false
		}
	}
	return true
}

// call makes the call of the store that s says, and hands its answer to run.
func (q *queue[K]) call(s *step) {
	begun := time.Now()
	var a Answer
	if s.take != nil {
		parts := slices.Clone(q.parts)
		for i := range parts {
			parts[i].Amount = s.take[i]
		}
		a = q.line.store.Take(q.ctx, q.key, parts, s.instant, s.ahead)
	} else {
		a = q.line.store.Give(q.ctx, q.key, q.parts, s.give.back(q.parts), s.instant)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.asking, q.fresh, q.retry = false, true, time.Time{}
	q.flight += (time.Since(begun) - q.flight) / flightShare
	q.learn(s, &a)
	q.notify()
}

// learn updates the queue by what the store answered.
func (q *queue[K]) learn(s *step, a *Answer) {
	switch {
	case a.Err != nil && s.take != nil:
		uncovered, _ := q.cover(q.waiting())
		for _, w := range slices.Clone(uncovered) {
			q.finish(w, Grant{}, a.Err)
		}
		return
	case a.Err != nil: // the place may be given back: it is not used any more
		return
	case s.give.stretches != nil && !s.give.given(q.parts, a.States, q.now()):
		q.places = append(q.places, s.give)
		slices.SortFunc(q.places, func(a, b place) int { return cmp.Compare(a.stretches[0].hi, b.stretches[0].hi) })
	}
	if s.take != nil {
		q.adjustOffset(time.Duration(a.At - s.instant))
		q.others = q.seen(s, a)
		q.eager = max(minEager, q.eager*eagerDecay)
	}
	for i, state := range a.States {
		if s.give.stretches != nil && state.Absent() {
			continue
		}
		if q.known[i].Generation != state.Generation { // the limit was changed, or is new: marks mean something else
			q.places = nil
		}
		q.known[i] = state
	}
	if a.Taken && s.take != nil {
		q.eager = min(maxEager, q.eager/eagerDecay*eagerGrowth)
		q.addPlace(s, a)
	}
}

// adjustOffset learns the offset of the store's clock from that of one answer. An answer may be for
// an instant that went on while it waited in the store, so the least offset counts, and a greater
// one only in part.
func (q *queue[K]) adjustOffset(offset time.Duration) {
	if offset < q.offset {
		q.offset = offset
	} else {
		q.offset += (offset - q.offset) / offsetShare
	}
}

// addPlace adds the place that a take has reserved, or answers a caller that asked for nothing.
func (q *queue[K]) addPlace(s *step, a *Answer) {
	q.serve() // what is there, up to now, as the new place may become a part of it
	p := place{make([]stretch, len(q.parts)), a.At}
	for i, state := range a.States {
		p.stretches[i] = stretch{lo: state.Mark - s.take[i]*q.parts[i].Definition.Unit(), hi: state.Mark, generation: state.Generation}
	}
	if head := s.batch[0]; head.empty() {
		if !head.served {
			q.finish(head, Grant{At: a.At, Receipts: p.receipts()}, nil)
		}
		return
	}
	if n := len(q.places); n > 0 && q.places[n-1].follows(p) {
		for i := range p.stretches {
			q.places[n-1].stretches[i].hi = p.stretches[i].hi
		}
		return
	}
	q.places = append(q.places, p)
}

// seen returns until when other writers are assumed to be at work: longer, if the answer
// shows marks beyond those that this process has caused.
func (q *queue[K]) seen(s *step, a *Answer) time.Time {
	for i := range a.States {
		expected := q.known[i]
		if a.Taken {
			expected, _ = expected.Charge(a.At, s.take[i])
		}
		if a.States[i].Mark > max(expected.Mark, expected.Definition.Drip(a.At)) {
			return time.Now().Add(othersFor)
		}
	}
	return q.others
}
