package cli

import (
	"context"
	"time"

	"github.com/zeroae/zael"
)

// A downStore stands for a store that cannot even be opened. It has the roles
// that an acquire needs, and of them what an acquire calls.
type downStore struct {
	zael.EntityStore
	zael.LimitStore
	cause error
}

func (s downStore) Take(context.Context, time.Time, time.Duration, []zael.Debit) (time.Time, error) {
	return time.Time{}, s.cause
}

func (s downStore) Adjust(context.Context, time.Time, []zael.Debit) (time.Time, error) {
	return time.Time{}, s.cause
}

func (s downStore) Buckets(context.Context, time.Time, []zael.Key) (time.Time, []zael.Bucket, error) {
	return time.Time{}, nil, s.cause
}

func (s downStore) Entities(context.Context, []string) ([]zael.Entity, error) { return nil, s.cause }

func (s downStore) Limits(context.Context, []zael.Scope) ([]zael.LimitSet, error) {
	return nil, s.cause
}
