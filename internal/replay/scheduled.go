package replay

import "github.com/zeroae/zael/bucket"

// scheduledStats follows a rate with a schedule over all entities: as its burst changes by
// the clock, a level is what it lacks of the burst in force.
type scheduledStats struct {
	definition bucket.Definition
	fullest    bucket.State
	peak       float64 // highest share of the burst in force, in percent
}

func (s *scheduledStats) full(at bucket.Instant) bucket.State {
	return bucket.State{}.Redefine(s.definition, at, 1)
}

// lacks returns the tokens that a state lacks of the burst in force.
func (s *scheduledStats) lacks(state bucket.State, at bucket.Instant) int64 {
	return s.full(at).Available(at) - state.Available(at)
}

// charge follows the bucket of an admitted request in the store, and returns its level.
func (s *scheduledStats) charge(state *bucket.State, at bucket.Instant, take, settled int64) int64 {
	if state.Absent() {
		*state = s.full(at)
	}
	next, err := settle(*state, at, take, settled)
	if err != nil { // the store has charged it: it does not happen
		return 0
	}
	*state = next
	level := s.lacks(next, at)
	if s.fullest.Absent() || level >= s.lacks(s.fullest, at) {
		s.fullest = next
	}
	s.peak = max(s.peak, percent(float64(level), float64(s.full(at).Available(at))))
	return level
}

// level returns what the fullest bucket lacks at an instant after the last request.
func (s *scheduledStats) level(at bucket.Instant) int64 {
	if s.fullest.Absent() {
		return 0
	}
	return max(0, s.lacks(s.fullest, at))
}
