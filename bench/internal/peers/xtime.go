package peers

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

func xtime(l Limit) *rate.Limiter {
	return rate.NewLimiter(rate.Every(l.Every), int(l.Burst))
}

// xtimeMap keeps limiters in a sync.Map. It calls Load first, as LoadOrStore would need a
// new limiter in each call.
type xtimeMap struct {
	limit Limit
	keys  sync.Map // of *rate.Limiter
}

func newXTime(limits []Limit) (Limiter, error) { return &xtimeMap{limit: limits[0]}, nil }

func (x *xtimeMap) Allow(key string) bool {
	v, ok := x.keys.Load(key)
	if !ok {
		v, _ = x.keys.LoadOrStore(key, xtime(x.limit))
	}
	return v.(*rate.Limiter).AllowN(time.Now(), int(x.limit.Amount))
}

// xtimeLocked keeps limiters in a map under a lock.
type xtimeLocked struct {
	limit Limit
	mu    sync.RWMutex
	keys  map[string]*rate.Limiter
}

func newXTimeLocked(limits []Limit) (Limiter, error) {
	return &xtimeLocked{limit: limits[0], keys: map[string]*rate.Limiter{}}, nil
}

func (x *xtimeLocked) Allow(key string) bool {
	x.mu.RLock()
	l := x.keys[key]
	x.mu.RUnlock()
	if l == nil {
		l = x.add(key)
	}
	return l.AllowN(time.Now(), int(x.limit.Amount))
}

func (x *xtimeLocked) add(key string) *rate.Limiter {
	x.mu.Lock()
	defer x.mu.Unlock()
	l := x.keys[key]
	if l == nil {
		l = xtime(x.limit)
		x.keys[key] = l
	}
	return l
}

// xtimePairs has two limiters for each key and a lock for both.
type xtimePairs struct {
	limits       [2]Limit
	first, other int      // amounts
	keys         sync.Map // of *xtimePair
}

type xtimePair struct {
	mu           sync.Mutex
	first, other *rate.Limiter
}

func newXTimePairs(limits []Limit) *xtimePairs {
	return &xtimePairs{
		limits: [2]Limit(limits), first: int(limits[0].Amount), other: int(limits[1].Amount),
	}
}

func (x *xtimePairs) pair(key string) *xtimePair {
	v, ok := x.keys.Load(key)
	if !ok {
		v, _ = x.keys.LoadOrStore(key, &xtimePair{first: xtime(x.limits[0]), other: xtime(x.limits[1])})
	}
	return v.(*xtimePair)
}

// xtimeCheck checks that the first limiter has enough, takes from the second, then from
// the first. It is all or nothing as long as all callers use the lock.
type xtimeCheck struct{ *xtimePairs }

func newXTimeCheck(limits []Limit) (Limiter, error) { return xtimeCheck{newXTimePairs(limits)}, nil }

func (x xtimeCheck) Allow(key string) bool {
	p := x.pair(key)
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	return p.first.TokensAt(now) >= float64(x.first) &&
		p.other.AllowN(now, x.other) &&
		p.first.AllowN(now, x.first)
}

// xtimeReserve reserves from both limiters and cancels if either has to wait, which also
// works for requests that may wait. Cancel gives back the exact amount only because the
// lock keeps others from reserving in between.
type xtimeReserve struct{ *xtimePairs }

func newXTimeReserve(limits []Limit) (Limiter, error) {
	return xtimeReserve{newXTimePairs(limits)}, nil
}

func (x xtimeReserve) Allow(key string) bool {
	p := x.pair(key)
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	first := p.first.ReserveN(now, x.first)
	if !first.OK() || first.DelayFrom(now) > 0 {
		first.CancelAt(now)
		return false
	}
	other := p.other.ReserveN(now, x.other)
	if !other.OK() || other.DelayFrom(now) > 0 {
		other.CancelAt(now)
		first.CancelAt(now)
		return false
	}
	return true
}

// xtimeSequence asks the limiters in turn. That is not all or nothing: the first stays
// charged when the second refuses.
type xtimeSequence struct{ *xtimePairs }

func newXTimeSequence(limits []Limit) (Limiter, error) {
	return xtimeSequence{newXTimePairs(limits)}, nil
}

func (x xtimeSequence) Allow(key string) bool {
	p := x.pair(key)
	now := time.Now()
	return p.first.AllowN(now, x.first) && p.other.AllowN(now, x.other)
}
