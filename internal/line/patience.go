package line

import (
	"math"
	"sync"
	"time"
)

// patience is how soon callers of a process give up, learned from those that
// waited. How far ahead a place may be taken for few callers follows from it:
// a place whose caller leaves, and has no heir, is lost.
type patience struct {
	mu     sync.Mutex
	left   float64 // callers that left, of late
	waited float64 // seconds that callers waited, of late
}

const (
	firstLeft   = 0.1
	firstWaited = 1.0
	forget      = 0.98 // what is kept of both sums at each caller that ends
	lossAllowed = 0.03 // probability that all callers of a place leave
)

// ended counts a caller that waited, and left by itself or did not.
func (p *patience) ended(waited time.Duration, left bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left *= forget
	p.waited = p.waited*forget + waited.Seconds()
	if left {
		p.left++
	}
}

// holds returns how long a place may be held for callers, the first of which has
// waited for age, so that with a probability of 1 − lossAllowed one is left to
// use it.
func (p *patience) holds(callers int, age time.Duration) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	rate := p.left / (p.waited + age.Seconds()) // that leave a second, of each
	if rate <= 0 {
		return math.MaxInt64
	}
	seconds := math.Pow(lossAllowed, 1/float64(callers)) / rate
	if seconds > 1e6 {
		return math.MaxInt64
	}
	return time.Duration(seconds * float64(time.Second))
}
