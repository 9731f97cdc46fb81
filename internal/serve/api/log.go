package api

import (
	"log/slog"
	"sync"
	"time"

	"github.com/zeroae/zael/internal/serve/problem"
)

// levelOf returns the level at which an answer of a status from 500 on is logged: what may
// pass by itself is a warning.
func levelOf(code problem.Code) slog.Level {
	if code == problem.Internal {
		return slog.LevelError
	}
	return slog.LevelWarn
}

// attributes are what is logged of a request that failed: no body and no header.
func attributes(c *call, f *failure, err error) []slog.Attr {
	return []slog.Attr{
		slog.String("method", c.r.Method), slog.String("principal", c.principal.Name),
		slog.String("code", string(f.code)), slog.Any("error", err),
	}
}

// A failureLog lets failures of one code be logged once a second: while the store is away, every
// request fails.
type failureLog struct {
	mu       sync.Mutex
	counters map[problem.Code]*unloggedFailures
}

// shouldLog reports whether a failure is to be logged now, and how many were not since the last
// one that was.
func (b *failureLog) shouldLog(code problem.Code, now time.Time) (unlogged int, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.counters == nil {
		b.counters = map[problem.Code]*unloggedFailures{}
	}
	p := b.counters[code]
	if p == nil {
		p = new(unloggedFailures)
		b.counters[code] = p
	} else if now.Sub(p.last) < time.Second {
		p.unlogged++
		return 0, false
	}
	unlogged, p.unlogged, p.last = p.unlogged, 0, now
	return unlogged, true
}

// unloggedFailures counts the failures since the last one that was logged.
type unloggedFailures struct {
	last     time.Time
	unlogged int
}
