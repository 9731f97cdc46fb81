package llm

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/clientkey"
	"github.com/zeroae/zael/internal/pause"
	"github.com/zeroae/zael/internal/recent"
)

// An account is what a provider holds to its limits: a model, for an API key. The key is a
// hash.
type account struct {
	host, key, model string
}

// accounts are what providers have announced, of those that were called last.
type accounts struct {
	mu sync.Mutex
	of *recent.Map[account, *announced]
}

// maxAccounts bounds the memory of Config.FollowProvider: at most twice as many are known.
const maxAccounts = 1000

// maxHold is the longest that an answer can keep calls back: a provider, or something
// between it and this process, may say anything.
const maxHold = time.Hour

// get returns what is known of the account of a call.
func (a *accounts) get(r *http.Request, call *Call) *announced {
	of := account{host: r.URL.Host, key: clientkey.Hash(apiKey(r)), model: call.Model}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.of == nil {
		a.of = recent.New[account, *announced](maxAccounts)
	}
	known, ok := a.of.Get(of)
	if !ok {
		known = new(announced)
		a.of.Put(of, known)
	}
	return known
}

// An announced is what a provider has announced of an account: that no call is welcome
// before an instant, and how its own limits stand. Between announcements the limits
// refill at the announced rate, and calls that are sent take from them.
type announced struct {
	mu     sync.Mutex
	until  time.Time // calls wait till then
	levels [dimensions]level
	taken  amount // of all calls so far
}

// The dimensions of providers' limits.
const (
	ofRequests = iota
	ofTokens
	ofInput
	ofOutput
	dimensions
)

// An amount is what a call needs in each dimension.
type amount [dimensions]float64

// A level is how a limit of a provider stands. The zero level binds nothing.
type level struct {
	limit, left float64
	rate        float64   // a second
	at          time.Time // when left was left
	heard       float64   // taken, including the call whose answer was heard last
	told        time.Time // when that was; after maxHold it is forgotten
}

// advance refills up to an instant.
func (l *level) advance(now time.Time) {
	if passed := now.Sub(l.at).Seconds(); passed > 0 {
		l.left, l.at = min(l.limit, l.left+l.rate*passed), now
	}
}

// A ticket is what a call has taken of an announced.
type ticket struct {
	need, taken amount // taken of all calls, this one included
	at          time.Time
}

// wait returns how long a call has to wait, and for what.
func (a *announced) wait(now time.Time, need *amount) (longest time.Duration, limit level, of int) {
	longest, of = a.until.Sub(now), -1
	for i := range a.levels {
		l := &a.levels[i]
		if l.rate <= 0 || now.Sub(l.told) > maxHold {
			continue
		}
		l.advance(now)
		if lacks := min(need[i], l.limit) - l.left; lacks > 0 {
			if d := min(seconds(lacks/l.rate), maxHold); d > longest {
				longest, limit, of = d, *l, i
			}
		}
	}
	return max(0, longest), limit, of
}

// follow takes a lease, and from the provider's limits. A call that cannot have them in
// time takes nothing of ours.
func (x *exchange) follow(r *http.Request, req zael.Request) error {
	begin, ctx := time.Now(), r.Context()
	u := x.estimate
	input := float64(u.Input)
	need := amount{ofRequests: 1, ofTokens: input + float64(u.Output), ofInput: input, ofOutput: float64(u.Output)}
	x.provider = x.limits.accounts.get(r, x.call)
	if _, err := x.provider.refusal(ctx, x, req.Entity, &need, req.MaxWait); err != nil {
		return err
	}
	if err := x.acquire(ctx, req); err != nil {
		return err
	}
	ticket, err := x.provider.enter(ctx, x, req.Entity, need, req.MaxWait-time.Since(begin))
	if err != nil {
		x.reportError(x.lease.Rollback(ctx))
		return err
	}
	x.ticket = ticket
	return nil
}

// refusal returns the wait of a call as a refusal, if it is more than most or than the
// caller has.
func (a *announced) refusal(ctx context.Context, x *exchange, entity string, need *amount, most time.Duration) (time.Duration, error) {
	now := time.Now()
	a.mu.Lock()
	wait, limit, of := a.wait(now, need)
	a.mu.Unlock()
	deadline, ok := ctx.Deadline()
	if wait == 0 || wait <= most && (!ok || now.Add(wait).Before(deadline)) {
		return wait, nil
	}
	s := zael.Status{Entity: entity, Resource: x.resource, Exceeded: true, RetryAfter: wait, Requested: 1}
	name, n := "provider", int64(1)
	if of >= 0 {
		name = [...]string{"provider-requests", "provider-tokens", "provider-input-tokens", "provider-output-tokens"}[of]
		n, s.Available, s.Requested = int64(limit.limit), int64(limit.left), int64(need[of])
	}
	s.Limit = zael.PerMinute(name, max(1, n))
	return wait, zael.NewExceededError(s)
}

// enter waits until the provider's limits have what a call needs, most at the longest, and
// takes it.
func (a *announced) enter(ctx context.Context, x *exchange, entity string, need amount, most time.Duration) (*ticket, error) {
	begin := time.Now()
	for {
		wait, err := a.refusal(ctx, x, entity, &need, most-time.Since(begin))
		if err != nil {
			return nil, err
		}
		if wait == 0 {
			if t := a.take(need); t != nil {
				return t, nil
			}
			continue
		}
		if err := pause.For(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// take takes what a call needs, unless it has to wait.
func (a *announced) take(need amount) *ticket {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if wait, _, _ := a.wait(now, &need); wait > 0 {
		return nil
	}
	for i, n := range need {
		a.taken[i] += n
		a.levels[i].left -= n
	}
	return &ticket{need: need, taken: a.taken, at: now}
}

// giveBack is for a call that was not sent. It counts as taken all the same, so that a
// call that was sent before it hears of less than there is.
func (a *announced) giveBack(t *ticket) {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, n := range t.need {
		l := &a.levels[i]
		l.advance(now)
		l.left = min(l.limit, l.left+n)
	}
}

// hear learns from an answer to a call with a ticket. It tells how limits stood when the
// provider admitted the call, before those that were sent since.
func (a *announced) hear(t *ticket, said *announcement, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if until := now.Add(min(said.wait, maxHold)); said.wait > 0 && until.After(a.until) {
		a.until = until
	}
	for i, s := range said.levels {
		l := &a.levels[i]
		if s.limit <= 0 || t.taken[i] < l.heard {
			continue // nothing is said, or something newer was
		}
		rate := l.rate
		if s.left < s.limit && s.full > 0 {
			rate = (s.limit - s.left) / s.full.Seconds()
		}
		*l = level{limit: s.limit, left: s.left, rate: rate, at: t.at, heard: t.taken[i], told: now}
		l.advance(now)
		l.left -= a.taken[i] - t.taken[i]
	}
}
