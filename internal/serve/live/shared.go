package live

import (
	"context"
	"sync"
	"time"

	"github.com/zeroae/zael/internal/recent"
)

// sharedKeys is how many keys' values are kept, at most twice as many.
const sharedKeys = 64

// Shared reads a value once for all who ask for it within an age. Its methods may be called
// concurrently.
type Shared[T any] struct {
	now  func() time.Time
	age  time.Duration
	wait time.Duration // for a read

	mu     sync.Mutex
	values *recent.Map[string, *sharedValue[T]]
}

// A sharedValue is read when done is closed.
type sharedValue[T any] struct {
	done  chan struct{}
	value T
	err   error
	read  time.Time // when it began to be read
}

// NewShared returns a Shared whose values are used until they are of an age, and whose reads
// may take as long as wait.
func NewShared[T any](now func() time.Time, age, wait time.Duration) *Shared[T] {
	return &Shared[T]{now: now, age: age, wait: wait, values: recent.New[string, *sharedValue[T]](sharedKeys)}
}

// Get returns the value of a key, and when it was read. If read is called, it goes on when ctx
// is done, for the sake of others, but its caller waits for it. An error is not kept.
func (s *Shared[T]) Get(ctx context.Context, key string, read func(context.Context) (T, error)) (value T, at time.Time, err error) {
	v, mine := s.value(key)
	if !mine {
		select {
		case <-v.done:
			return v.value, v.read, v.err
		case <-ctx.Done():
			return value, at, ctx.Err()
		}
	}
	defer close(v.done)
	v.err = context.Canceled // if read panics
	reading, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.wait)
	defer cancel()
	defer func() {
		if v.err != nil {
			s.drop(key, v)
		}
	}()
	v.value, v.err = read(reading)
	return v.value, v.read, v.err
}

// value returns the value of a key, and whether the caller has to read it.
func (s *Shared[T]) value(key string) (v *sharedValue[T], mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if v, ok := s.values.Get(key); ok && now.Sub(v.read) < s.age {
		return v, false
	}
	v = &sharedValue[T]{done: make(chan struct{}), read: now}
	s.values.Put(key, v)
	return v, true
}

func (s *Shared[T]) drop(key string, v *sharedValue[T]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if kept, ok := s.values.Get(key); ok && kept == v {
		s.values.Delete(key)
	}
}

// Forget has all values read again, as something has changed.
func (s *Shared[T]) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values.Clear()
}
