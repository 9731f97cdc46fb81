package protocol

import (
	"time"

	"github.com/zeroae/zael/bucket"
)

// What the tests look at of the inside.

func DefinitionText(d bucket.Definition, turns uint64) string     { return definitionText(d, turns) }
func ParseDefinition(s string) (bucket.Definition, uint64, error) { return parseDefinition(s) }

// A Guess is a guess on its way.
type Guess struct{ guess }

func NewGuess(s bucket.State) *Guess {
	return &Guess{guess{state: s, mark: identity()}}
}

func (g *Guess) Take(at bucket.Instant, n int64, ahead time.Duration, pad int64) bool {
	return g.take(at, n, room(g.state.Definition, at, n, ahead), pad)
}
func (g *Guess) Charge(at bucket.Instant, n int64) error         { return g.charge(at, n) }
func (g *Guess) Give(at bucket.Instant, n, receipt int64)        { g.give(at, n, receipt) }
func (g *Guess) Redefine(d bucket.Definition, at bucket.Instant) { g.redefine(d, at) }
func (g *Guess) Range() (lo, hi int64)                           { return g.mark.lo, g.mark.hi }
func (g *Guess) Mark() int64                                     { return g.state.Mark }
func (g *Guess) Of(mark int64) int64                             { return g.mark.of(mark) }
func (g *Guess) Turns() uint64                                   { return g.state.Generation }
func (g *Guess) Definition() bucket.Definition                   { return g.state.Definition }

// Owns reports whether a receipt may be of a limit in a state.
func (r *Record) Owns(s bucket.State, receipt bucket.Receipt) bool {
	turns, turn := s.Generation-r.birth, receipt.Generation-r.birth
	return turn <= turns && turn>>turnBits == turns>>turnBits
}

// Begins returns the generation of a limit that the record does not have.
func (r *Record) Begins() uint64 { return r.Birth() + r.Removals()<<turnBits }

// Expiry returns when the item expires, in seconds since 1970.
func (r *Record) Expiry() int64 { return r.ttl }

// Names returns the names of the limits.
func (r *Record) Names() (names []string) {
	if r == nil {
		return nil
	}
	for i := range r.limits {
		names = append(names, r.limits[i].name)
	}
	return names
}
