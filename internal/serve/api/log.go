package api

import (
	"log/slog"

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
