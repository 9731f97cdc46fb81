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

// A logbook keeps failures of one code from being logged more than once a second: while a store is
// away, each request fails.
type logbook struct {
	mu       sync.Mutex
	silences map[problem.Code]*silence
}

// speaks reports whether a failure is to be logged now, and how many were not since the last.
func (b *logbook) speaks(code problem.Code, now time.Time) (unlogged int, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.silences == nil {
		b.silences = map[problem.Code]*silence{}
	}
	p := b.silences[code]
	if p == nil {
		p = new(silence)
		b.silences[code] = p
	} else if now.Sub(p.last) < time.Second {
		p.unlogged++
		return 0, false
	}
	unlogged, p.unlogged, p.last = p.unlogged, 0, now
	return unlogged, true
}

// A silence is since the last failure that was logged.
type silence struct {
	last     time.Time
	unlogged int
}
