package redisstore

import (
	"context"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/zeroae/zael/internal/enginecall"
)

const (
	undoFor    = 10 * time.Second // a give-back may take so long; nobody need wait for it
	maxRetries = 4                // of calls that failed without an answer
	maxTurns   = 512              // of writes that others came before

	burstOfTurns = 4

	raceBase = 200 * time.Microsecond // after another writer came first
	raceMost = 8 * time.Millisecond

	askEvery = 10 * time.Second // the server's time
)

// retries are those of calls without an answer.
//
//nolint:gochecknoglobals // a constant
var retries = enginecall.Retries{FateOf: fateOf, Most: maxRetries, Base: 5 * time.Millisecond, Longest: 160 * time.Millisecond}

// callTime returns how long one call may take.
func (s *Store) callTime(ctx context.Context) time.Duration {
	return enginecall.Time(ctx, s.config.CallTimeout)
}

// callContext returns the context of one call of a script, which goes on when its caller leaves.
func (s *Store) callContext(ctx context.Context) (context.Context, context.CancelFunc) {
	if d := s.callTime(ctx); d != s.config.CallTimeout {
		return context.WithTimeout(context.WithoutCancel(ctx), d)
	}
	return s.callLimit.Detach(ctx), func() {}
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
		unknown := fateOf(err) == enginecall.Unknown
		if unknown {
			s.stats.unanswered.Add(1)
			lost = true
			again()
		}
		if ctx.Err() != nil || !retries.Again(ctx, n, err) {
			return a, lost, err
		}
		if unknown {
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
	var v T
	err := retries.Read(ctx, func() (err error) {
		v, err = askOnce(s, ctx, do)
		return err
	})
	return v, s.translate(ctx, what, err)
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

const askingTime = "asking for the server's time"

// askTime makes a call for the server's time.
func (s *Store) askTime(ctx context.Context) error {
	_, err := ask(s, ctx, askingTime, func(ctx context.Context, c rueidis.Client) (struct{}, error) {
		sent := s.clock.Read()
		command := c.B().Time().Build()
		if s.cluster { // always the same server's
			command = c.B().Eval().Script("return redis.call('TIME')").Numkeys(1).Key(s.keys.meta()).Build()
		}
		parts, err := c.Do(ctx, command).AsStrSlice()
		if err != nil {
			return struct{}{}, err
		}
		var unix [2]int64
		for i := range unix {
			if len(parts) != 2 {
				return struct{}{}, errDamaged
			}
			if unix[i], err = strconv.ParseInt(parts[i], 10, 64); err != nil {
				return struct{}{}, err
			}
		}
		s.clock.Heard(time.Unix(unix[0], unix[1]*1000), time.Microsecond, sent)
		return struct{}{}, nil
	})
	return err
}
