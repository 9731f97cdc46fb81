// Package lograte keeps messages of one kind from being logged too often.
package lograte

import (
	"sync"
	"time"
)

// A Limiter lets one message of each kind through in an interval, and counts the others. Kinds are
// never forgotten, so they must be few. Its method may be called concurrently.
type Limiter struct {
	every time.Duration

	mu    sync.Mutex
	kinds map[string]kind
}

// A kind is what was logged of a kind of message.
type kind struct {
	logged     time.Time // when the last message was
	suppressed int       // since then
}

// New returns a Limiter with an interval.
func New(every time.Duration) *Limiter { return &Limiter{every: every, kinds: map[string]kind{}} }

// Allow reports whether a message of a kind may be logged now, and how many were suppressed since the
// last one that was.
func (l *Limiter) Allow(name string, now time.Time) (suppressed int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k, known := l.kinds[name]
	if known && now.Sub(k.logged) < l.every {
		k.suppressed++
		l.kinds[name] = k
		return 0, false
	}
	l.kinds[name] = kind{logged: now}
	return k.suppressed, true
}
