package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/redis/rueidis"
)

// A connection makes the client of a store at its first call. If that fails, the next call tries
// again.
type connection struct {
	dial   func() (rueidis.Client, error) // nil: the client is the caller's
	client atomic.Pointer[rueidis.Client]
	trying atomic.Pointer[try]
}

// A try is one to connect. Callers that come meanwhile wait for it.
type try struct {
	done chan struct{}
	err  error // once done is closed
}

// connect returns the client. A try goes on when its caller has left.
func (s *Store) connect(ctx context.Context) (rueidis.Client, error) {
	for {
		if c := s.connection.client.Load(); c != nil {
			return *c, nil
		}
		t := s.connection.trying.Load()
		if t == nil {
			mine := &try{done: make(chan struct{})}
			if !s.connection.trying.CompareAndSwap(nil, mine) {
				continue
			}
			if c := s.connection.client.Load(); c != nil { // by a try that has just ended
				s.connection.trying.Store(nil)
				return *c, nil
			}
			t = mine
			s.inflight.Go(func() {
				mine.err = s.dial(context.WithoutCancel(ctx))
				s.connection.trying.Store(nil)
				close(mine.done)
			})
		}
		select {
		case <-t.done:
			if t.err != nil {
				return nil, t.err
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("connecting: %w", ctx.Err())
		}
	}
}

// dial makes a client, and looks at the server.
func (s *Store) dial(ctx context.Context) error {
	c, err := s.connection.dial()
	if err != nil {
		return &dialError{err}
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	nodes := map[string]rueidis.Client{"": c}
	if s.cluster {
		nodes = c.Nodes()
	}
	for _, node := range nodes {
		// A server of a cluster that does not answer holds up its own buckets alone.
		if err := suitable(ctx, node); err != nil && (!s.cluster || errors.Is(err, errUnsuitable)) {
			c.Close()
			return err
		}
	}
	s.connection.client.Store(&c)
	return nil
}

// closeConnection closes a client that the store has made.
func (s *Store) closeConnection() {
	if c := s.connection.client.Load(); c != nil && s.connection.dial != nil {
		(*c).Close()
	}
}

// A dialError is of a connection that was not made: nothing was sent.
type dialError struct{ cause error }

func (e *dialError) Error() string { return "connecting: " + e.cause.Error() }

func (e *dialError) Unwrap() error { return e.cause }

// errUnsuitable is matched by the errors of a server that cannot keep buckets.
var errUnsuitable = errors.New("the server is not suitable")

// suitable returns an error if a server is too old, or may evict what has to be kept. A server
// that does not let its users ask is taken for suitable.
func suitable(ctx context.Context, c rueidis.Client) error {
	for _, section := range []string{"server", "memory"} {
		info, err := c.Do(ctx, c.B().Info().Section(section).Build()).ToString()
		if _, refused := rueidis.IsRedisErr(err); refused {
			return nil
		}
		if err != nil {
			return err
		}
		if err := suits(info); err != nil {
			return err
		}
	}
	return nil
}

// suits looks at a section of what INFO says.
func suits(info string) error {
	if version, ok := infoField(info, "redis_version"); ok {
		var major int
		if _, err := fmt.Sscanf(version, "%d.", &major); err == nil && major < 7 {
			return fmt.Errorf("%w: it is Redis %s: use Redis 7 or later, or Valkey", errUnsuitable, version)
		}
	}
	if policy, ok := infoField(info, "maxmemory_policy"); ok && policy != "noeviction" && policy != "volatile-ttl" {
		return fmt.Errorf("%w: its maxmemory-policy is %s, which forgets what is used of limits when memory runs out: set noeviction, or volatile-ttl", errUnsuitable, policy)
	}
	return nil
}

// infoField returns a field of what INFO says.
func infoField(info, name string) (value string, ok bool) {
	for line := range strings.Lines(info) {
		if value, ok = strings.CutPrefix(strings.TrimSpace(line), name+":"); ok {
			return value, true
		}
	}
	return "", false
}
