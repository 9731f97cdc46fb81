package redisstore

import (
	"context"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/pause"
)

const (
	leastCall  = 50 * time.Millisecond
	undoFor    = 10 * time.Second // a give-back may take so long; nobody need wait for it
	maxRetries = 4                // of calls that failed without an answer
	maxTurns   = 512              // of writes that others came before

	burstOfTurns = 4

	retryBase = 5 * time.Millisecond
	retryMost = 160 * time.Millisecond
	raceBase  = 200 * time.Microsecond // after another writer came first
	raceMost  = 8 * time.Millisecond

	askEvery = 10 * time.Second // the server's time
)

// callTime returns how long one call may take, so that there is time for another before ctx's
// deadline. If there is none the call may take as long as any.
func (s *Store) callTime(ctx context.Context) time.Duration {
	d := s.config.CallTimeout
	if deadline, ok := ctx.Deadline(); ok {
		if left := time.Until(deadline); left > leastCall {
			d = min(d, max(left/2, leastCall))
		}
	}
	return d
}

// run calls a script until it is answered, or as often as that makes sense. again is called before
// it is sent once more though it may have been applied; lost reports whether it was. Calls go on
// when ctx is done: what they have changed has to be known.
func (s *Store) run(ctx context.Context, l *lua, keys, args []string, again func()) (a answer, lost bool, err error) {
	for n := 0; ; n++ {
		a, err = s.runOnce(ctx, l, keys, args)
		if err == nil {
			return a, lost, nil
		}
		fate := fateOf(err)
		if fate == mayBeApplied {
			s.stats.unanswered.Add(1)
			lost = true
			again()
		}
		if fate == rejected || n >= maxRetries || ctx.Err() != nil || pause.Backoff(ctx, n, retryBase, retryMost) != nil {
			return a, lost, err
		}
		if fate == mayBeApplied {
			s.stats.repeated.Add(1)
		}
	}
}

// runOnce makes one call of a script.
func (s *Store) runOnce(ctx context.Context, l *lua, keys, args []string) (a answer, err error) {
	ctx, cancel := s.callContext(ctx)
	defer cancel()
	c, err := s.connect(ctx)
	if err != nil {
		return a, err
	}
	s.stats.calls.Add(1)
	result, replicas := s.exec(ctx, c, c.B().Evalsha().Sha1(l.sha1).Numkeys(int64(len(keys))).Key(keys...).Arg(args...).Build())
	if e, ok := rueidis.IsRedisErr(result.Error()); ok && e.IsNoScript() {
		result, replicas = s.exec(ctx, c, c.B().Eval().Script(l.text).Numkeys(int64(len(keys))).Key(keys...).Arg(args...).Build())
	}
	if a, err = answerOf(result); err == nil && a.verdict == applied && replicas < int64(s.config.Replicas) {
		s.stats.unreplicated.Add(1)
	}
	return a, err
}

// exec makes a call and, if writes are to wait for replicas, waits on the same connection. It
// returns how many have the write.
func (s *Store) exec(ctx context.Context, c rueidis.Client, command rueidis.Completed) (result rueidis.RedisResult, replicas int64) {
	if s.config.Replicas == 0 {
		return c.Do(ctx, command), 0
	}
	wait := s.callTime(ctx)
	if deadline, ok := ctx.Deadline(); ok {
		wait = max(time.Millisecond, time.Until(deadline)/2)
	}
	all := c.DoMulti(ctx, command, c.B().Wait().Numreplicas(int64(s.config.Replicas)).Timeout(wait.Milliseconds()).Build())
	replicas, err := all[1].AsInt64()
	if err != nil {
		replicas = 0 // and the write is answered, or not
	}
	return all[0], replicas
}

// ask makes a call that changes nothing until it is answered.
func ask[T any](s *Store, ctx context.Context, what string, do func(context.Context, rueidis.Client) (T, error)) (T, error) { //nolint:revive // a method cannot have a type parameter
	for n := 0; ; n++ {
		v, err := askOnce(s, ctx, do)
		if err == nil {
			return v, nil
		}
		if fateOf(err) == rejected || n >= maxRetries || pause.Backoff(ctx, n, retryBase, retryMost) != nil {
			var none T
			return none, s.translate(ctx, what, err)
		}
	}
}

func askOnce[T any](s *Store, ctx context.Context, do func(context.Context, rueidis.Client) (T, error)) (v T, err error) { //nolint:revive // as ask
	ctx, cancel := context.WithTimeout(ctx, s.callTime(ctx))
	defer cancel()
	c, err := s.connect(ctx)
	if err != nil {
		return v, err
	}
	return do(ctx, c)
}

// readHashes reads whole hashes, in their order.
func (s *Store) readHashes(ctx context.Context, what string, keys []string) ([][]string, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	return ask(s, ctx, what, func(ctx context.Context, c rueidis.Client) ([][]string, error) {
		commands := make(rueidis.Commands, len(keys))
		for i, k := range keys {
			commands[i] = c.B().Hgetall().Key(k).Build()
		}
		s.stats.calls.Add(1)
		all := make([][]string, len(keys))
		for i, result := range c.DoMulti(ctx, commands...) {
			m, err := result.AsStrMap()
			if err != nil {
				return nil, err
			}
			all[i] = make([]string, 0, 2*len(m))
			for name, value := range m {
				all[i] = append(all[i], name, value)
			}
		}
		return all, nil
	})
}

// instant returns now, which the caller has just read from this machine's wall clock, by the
// server's clock. If the offset between the two is not known it asks the server first.
func (s *Store) instant(ctx context.Context, now time.Time) (time.Time, bucket.Instant, error) {
	if !s.trial.VirtualTime {
		entered := s.read()
		offset, known := s.clock.Offset(entered)
		switch {
		case !known:
			if err := s.askTime(ctx); err != nil {
				return now, 0, err
			}
			offset, _ = s.clock.Offset(entered)
		case time.Duration(s.asking.Load())+askEvery < entered.Mono:
			s.asking.Store(int64(entered.Mono))
			s.inflight.Go(func() { _ = s.askTime(context.WithoutCancel(ctx)) }) // the next one asks again
		}
		now = now.Add(offset)
	}
	at, err := bucket.At(now)
	if err != nil {
		return now, 0, invalid("now", nil, err.Error())
	}
	return now, at, nil
}

// An asking is a call for the server's time. Callers that come meanwhile wait for it.
type asking struct {
	done chan struct{}
	err  error // once done is closed
}

// askTime asks for the server's time. Concurrent callers share one call.
func (s *Store) askTime(ctx context.Context) error {
	a := s.asked.Load()
	if a == nil {
		mine := &asking{done: make(chan struct{})}
		if s.asked.CompareAndSwap(nil, mine) {
			s.inflight.Go(func() {
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoFor)
				defer cancel()
				mine.err = s.learnTime(ctx)
				s.asked.Store(nil)
				close(mine.done)
			})
			a = mine
		} else if a = s.asked.Load(); a == nil {
			return nil // it has just been answered
		}
	}
	select {
	case <-a.done:
		return a.err
	case <-ctx.Done():
		return s.translate(ctx, "asking for the server's time", ctx.Err())
	}
}

// learnTime makes one call for the server's time.
func (s *Store) learnTime(ctx context.Context) error {
	_, err := ask(s, ctx, "asking for the server's time", func(ctx context.Context, c rueidis.Client) (struct{}, error) {
		sent := s.read()
		command := c.B().Time().Build()
		if s.cluster { // always the same server's
			command = c.B().Eval().Script("return redis.call('TIME')").Numkeys(1).Key(s.keys.meta()).Build()
		}
		parts, err := c.Do(ctx, command).AsStrSlice()
		if err != nil {
			return struct{}{}, err
		}
		received := s.read()
		var unix [2]int64
		for i := range unix {
			if len(parts) != 2 {
				return struct{}{}, errDamaged
			}
			if unix[i], err = strconv.ParseInt(parts[i], 10, 64); err != nil {
				return struct{}{}, err
			}
		}
		s.clock.Answer(time.Unix(unix[0], unix[1]*1000), time.Microsecond, sent, received)
		s.asking.Store(int64(received.Mono))
		return struct{}{}, nil
	})
	return err
}
