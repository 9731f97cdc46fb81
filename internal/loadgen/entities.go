package loadgen

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zeroae/zael"
)

// maxConcurrent is how many entities are created or deleted at a time.
const maxConcurrent = 32

// Setup creates the entities of a job with Cascade; others need none.
func Setup(ctx context.Context, l *zael.Limiter, job *Job) error {
	if !job.Cascade {
		return nil
	}
	if _, err := l.CreateEntity(ctx, zael.Entity{ID: job.Parent()}); err != nil {
		return err
	}
	return forEach(job.Keys, func(i int) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		_, err := l.CreateEntity(ctx, zael.Entity{ID: job.Entity(i), ParentID: job.Parent()})
		return err
	})
}

// Cleanup deletes what a job left in the store, except audit events. No process may
// run the job any more. Deleting one entity may take ten times as long as an acquire.
func Cleanup(ctx context.Context, l *zael.Limiter, job *Job) error {
	remove := func(id string) error {
		ctx, cancel := context.WithTimeout(ctx, 10*cmp.Or(job.Timeout, time.Second))
		defer cancel()
		err := l.DeleteEntity(ctx, id)
		switch {
		case errors.Is(err, zael.ErrEntityNotFound):
			return nil
		case errors.Is(err, context.DeadlineExceeded):
			return fmt.Errorf("%w: %w", zael.ErrUnavailable, err)
		}
		return err
	}
	err := forEach(job.Keys, func(i int) error { return remove(job.Entity(i)) })
	if job.Cascade {
		err = errors.Join(err, remove(job.Parent()))
	}
	return err
}

// forEach calls f for 0 to n-1, up to maxConcurrent at a time, until one fails.
func forEach(n int, f func(int) error) error {
	var next atomic.Int64
	var failed atomic.Bool
	var first error
	var once sync.Once
	var all sync.WaitGroup
	for range min(maxConcurrent, n) {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && !failed.Load(); i = int(next.Add(1)) - 1 {
				if err := f(i); err != nil {
					failed.Store(true)
					once.Do(func() { first = err })
				}
			}
		})
	}
	all.Wait()
	return first
}
