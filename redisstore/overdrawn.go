package redisstore

import (
	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/coalesce"
)

// overdrawnMark is before the name of a limit, which has none, where usage counts the acquires that
// left it overdrawn.
const overdrawnMark = "!"

// overdrew returns, by limit, how many takes the part counts as having left it overdrawn, less than
// 0 if it undoes them. Takes of soft limits are decided here and not by take.lua, so their charges
// have the states that the write leaves.
func (p *part) overdrew() (counts []bucket.Count) {
	switch {
	case p.kind == coalesce.Undo:
		for _, c := range p.undoes {
			counts = append(counts, bucket.Count{Name: c.Name, N: -c.N})
		}
		return counts
	case p.kind != coalesce.Take || p.bypass:
		return nil
	}
	return p.overdrewIn(left(p.charges))
}

// overdrewIn returns how many takes of the part have left a limit overdrawn, by the bucket as they
// left it.
func (p *part) overdrewIn(after coalesce.Bucket) []bucket.Count {
	if p.batch != nil {
		return p.batch.Overdrew(after)
	}
	return coalesce.Overdrew(p.charges, after, nil, p.at)
}

// left is the bucket as charges have left it, as far as they name it.
type left []zael.Charge

// State implements coalesce.Bucket.
func (l left) State(name string) bucket.State { return l.find(name, false) }

// SlotState implements coalesce.SlotBucket.
func (l left) SlotState(name string) bucket.State { return l.find(name, true) }

// RefusesSlots implements coalesce.SlotBucket: the charges were made.
func (l left) RefusesSlots(*zael.Charge, string, bucket.Instant) bool { return false }

func (l left) find(name string, slots bool) bucket.State {
	for i := range l {
		if c := &l[i]; c.Name == name && (c.Definition.Kind == bucket.Slots) == slots {
			return c.State
		}
	}
	return bucket.State{}
}
