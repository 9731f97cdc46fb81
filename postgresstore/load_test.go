package postgresstore_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeroae/zael"
)

const (
	loadCallers = 8                // as many takes of a load are in flight at most
	callerTime  = 10 * time.Second // for a take; a busy disk may take seconds to flush
)

// A load is callers that take 1 from a bucket, again and again.
type load struct {
	told   atomic.Int64 // that were told that their takes were made
	more   chan struct{}
	end    chan struct{}
	ending sync.Once
	wg     sync.WaitGroup
}

// startLoad starts a load on the bucket of an entity, which ends with t.
func startLoad(t *testing.T, s zael.Store, entity string) *load {
	t.Helper()
	l := &load{more: make(chan struct{}, 1), end: make(chan struct{})}
	for range loadCallers {
		l.wg.Go(func() {
			for {
				select {
				case <-l.end:
					return
				default:
				}
				ctx, cancel := context.WithTimeout(t.Context(), callerTime)
				if _, err := s.Take(ctx, t0, 0, askPlenty(entity, 1, false)); err == nil {
					l.told.Add(1)
					select {
					case l.more <- struct{}{}:
					default:
					}
				}
				cancel()
			}
		})
	}
	t.Cleanup(l.stop)
	return l
}

// await waits until n more takes were told, and returns how many there are in all.
func (l *load) await(t *testing.T, n int64) int64 {
	t.Helper()
	for want := l.told.Load() + n; l.told.Load() < want; {
		await(t, l.more)
	}
	return l.told.Load()
}

// stop ends the load, and returns when its last take is told or given up.
func (l *load) stop() {
	l.ending.Do(func() { close(l.end) })
	l.wg.Wait()
}
