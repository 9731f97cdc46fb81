package zael

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/zeroae/zael/bucket"
)

// maxLimits is how many limits a bucket may have in one call.
const maxLimits = 100

// A bound is a limit that was checked.
type bound struct {
	name       string
	definition bucket.Definition
}

// A call is one request as debits for the store, and the store's answer. It is
// reused, so that Allow allocates nothing.
type call struct {
	op
	debits  []Debit // the entity's bucket, then the parent's
	charges []Charge
	own     int     // charges of the entity's bucket; the others are the parent's
	checked []Limit // what the first charges were made of by bindPlain
	unknown bool    // a name in Consume is not among the stored limits
	newer   []Debit // while limits are read again: what showed that they are stale
}

func (c *call) reset() {
	c.debits, c.charges, c.own, c.checked = c.debits[:0], c.charges[:0], 0, c.checked[:0]
	c.unknown = false
}

func (c *call) add(name string, d bucket.Definition, amount int64) {
	c.charges = append(c.charges, Charge{Name: name, Definition: d, Amount: amount})
}

// take charges what req asks for: the steps of every acquire. The answer is in
// c. An error that matches ErrUnavailable is the caller's to weigh by mode.
func (l *Limiter) take(ctx context.Context, req *Request, maxWait time.Duration, c *call) (at time.Time, err error) {
	if err := l.checkOpen(); err != nil {
		return at, err
	}
	if err := ctx.Err(); err != nil {
		return at, err
	}
	now := l.now()
	if err := l.prepare(ctx, req, now, l.ttl, c); err != nil {
		return at, err
	}
	l.countUnknown(c)
	return l.charge(ctx, c, now, maxWait, req)
}

// takeMore charges what c asks for, under the limits it has.
func (l *Limiter) takeMore(ctx context.Context, c *call) (at time.Time, err error) {
	defer c.end()
	if err := l.checkOpen(); err != nil {
		return at, err
	}
	if err := ctx.Err(); err != nil {
		return at, err
	}
	return l.charge(ctx, c, l.now(), 0, nil)
}

// charge has the store take c's debits. If a bucket has seen newer limits than
// this process, those of req are read again; without a req, or if that did not
// help, the bucket's are adopted.
func (l *Limiter) charge(ctx context.Context, c *call, now time.Time, maxWait time.Duration, req *Request) (at time.Time, err error) {
	behind := false // the clock was, and has caught up
	for range 4 {
		at, err = l.once(ctx, c, now, maxWait)
		if err == nil && maxWait > 0 { // for how long depends on the clock
			at, _ = l.caughtUp(at)
		}
		if err == nil {
			return at, nil
		}
		if errors.Is(err, ErrExceeded) {
			if !behind {
				if now, behind = l.caughtUp(now); behind {
					continue
				}
			}
			return at, c.exceeded(at, maxWait)
		}
		if !errors.Is(err, ErrStaleLimits) {
			return at, err
		}
		if req == nil {
			c.adopt()
			continue
		}
		l.stats.staleLimits.Add(1)
		if err := l.again(ctx, req, now, c); err != nil {
			return at, err
		}
		req = nil
	}
	return at, fmt.Errorf("%w: its limits change all the time", ErrContention)
}

// refreshAfter is how old what is known of a key must be for a bucket with
// newer limits to have it read again.
const refreshAfter = time.Second

// again prepares req again for buckets with newer limits than were known.
func (l *Limiter) again(ctx context.Context, req *Request, now time.Time, c *call) error {
	c.newer = slices.Clone(c.debits)
	for i := range c.newer {
		c.newer[i].Charges = slices.Clone(c.newer[i].Charges)
	}
	defer func() { c.newer = nil }()
	return l.prepare(ctx, req, now, refreshAfter, c)
}

// once asks the store once, first for an answer from memory.
func (l *Limiter) once(ctx context.Context, c *call, now time.Time, maxWait time.Duration) (at time.Time, err error) {
	if l.local != nil {
		at, answered, err := l.local.TakeLocal(now, maxWait, c.debits)
		if answered {
			return at, l.localError(c.debits[0].Key, err)
		}
	}
	err = l.ask(ctx, &c.op, c.debits[0].Key, func(ctx context.Context) error {
		var err error
		at, err = l.store.Take(ctx, now, maxWait, c.debits)
		return err
	})
	return at, err
}

// localError is an error of a LocalStore in the caller's terms.
func (l *Limiter) localError(key Key, err error) error {
	if err != nil && errors.Is(err, ErrUnavailable) {
		return l.unavailable(key, err)
	}
	return ofClock(err)
}

// adopt takes over the newer definitions that the buckets have.
func (c *call) adopt() {
	c.checked = c.checked[:0]
	for i := range c.charges {
		if ch := &c.charges[i]; ch.State.Stale(ch.Definition) {
			ch.Definition = ch.State.Definition
		}
	}
}

// prepare checks req and makes its debits. What is known of stored limits and
// entities may be up to maxAge old.
func (l *Limiter) prepare(ctx context.Context, req *Request, now time.Time, maxAge time.Duration, c *call) error {
	if plain := !req.UseStoredLimits && !req.Cascade && len(req.ParentLimits) == 0 && req.MaxWait >= 0 && req.FailureMode <= FailOpen; plain && c.bindPlain(req) {
		return nil
	}
	c.reset()
	if err := req.check(); err != nil {
		return err
	}
	parent := ""
	if req.UseStoredLimits || req.Cascade {
		var err error
		if parent, err = l.parent(ctx, &c.op, req.Entity, req.Cascade, now, maxAge); err != nil {
			return err
		}
	}
	found, err := l.bind(ctx, req, Key{req.Entity, req.Resource}, req.Limits, now, maxAge, c)
	if err != nil {
		return err
	}
	c.own = len(c.charges)
	if c.own == 0 {
		return noLimits(req.Entity, req.Resource)
	}
	if parent != "" {
		limits := req.ParentLimits
		if limits == nil {
			limits = req.Limits
		}
		if _, err := l.bind(ctx, req, Key{parent, req.Resource}, limits, now, maxAge, c); err != nil {
			return err
		}
	}
	c.unknown = req.UseStoredLimits && found != len(req.Consume) && c.lacks(req.Consume)
	c.debits = append(c.debits, Debit{Key: Key{req.Entity, req.Resource}, Charges: c.charges[:c.own:c.own]})
	if len(c.charges) > c.own {
		c.debits = append(c.debits, Debit{Key: Key{parent, req.Resource}, Charges: c.charges[c.own:]})
	}
	return nil
}

// bindPlain is prepare for what nearly every call is: valid, on one bucket, under
// limits that it names. Otherwise it returns false. A limit that c was made for
// before is not checked again.
func (c *call) bindPlain(req *Request) bool {
	n := len(req.Limits)
	if n == 0 || n > maxLimits || !validEntity(req.Entity) {
		return false
	}
	if len(c.checked) != n || len(c.debits) != 1 {
		c.reset()
		c.charges = slices.Grow(c.charges, n)[:n]
		c.checked = slices.Grow(c.checked, n)[:n]
		clear(c.checked)
		c.debits = append(c.debits, Debit{Charges: c.charges})
		c.own = n
	}
	key := &c.debits[0].Key
	if req.Resource == "" || key.Resource != req.Resource && !validName(req.Resource) {
		return false
	}
	key.Entity, key.Resource = req.Entity, req.Resource
	found := 0
	for i := range req.Limits {
		limit, ch := &req.Limits[i], &c.charges[i]
		if limit.Name == "" || c.checked[i] != *limit {
			d, err := definitionOf(limit)
			if err != nil {
				c.reset()
				return false
			}
			for j := range req.Limits {
				if j != i && req.Limits[j].Name == limit.Name {
					c.reset()
					return false
				}
			}
			c.checked[i], ch.Name, ch.Definition = *limit, limit.Name, d
		}
		amount, named := req.Consume[limit.Name]
		if named {
			found++
		}
		if amount < 0 || amount > bucket.MaxAmount {
			return false
		}
		ch.Amount = amount
	}
	return found == len(req.Consume)
}

func noLimits(entity, resource string) error {
	return fmt.Errorf("%w for %s on %s: name them in the call, or store some with SetLimits", ErrNoLimits, entity, resource)
}

// bind adds a charge for each limit of a bucket: of the stored ones if they are
// asked for and there are any, else of the call's. It tells how many of the
// names in Consume it found.
func (l *Limiter) bind(
	ctx context.Context, req *Request, key Key, limits []Limit, now time.Time, maxAge time.Duration, c *call,
) (found int, err error) {
	add := func(name string, d bucket.Definition) {
		amount, named := req.Consume[name]
		found += btoi(named)
		c.add(name, d, amount)
	}
	var rev int64
	if req.UseStoredLimits {
		set, err := l.limitSet(ctx, c, key, limits, now, maxAge)
		if err != nil {
			return 0, err
		}
		for i := range set.bounds {
			add(set.bounds[i].name, set.bounds[i].definition)
		}
		if len(set.bounds) > 0 {
			return found, nil
		}
		rev = set.rev
	}
	for i := range limits {
		d, err := definitionOf(&limits[i])
		if err != nil {
			return 0, err
		}
		d.Rev = rev
		add(limits[i].Name, d)
	}
	return found, nil
}

// check finds what is wrong with a request whatever is stored.
func (req *Request) check() error {
	if err := checkEntity("Request.Entity", req.Entity); err != nil {
		return err
	}
	if err := checkResource("Request.Resource", req.Resource); err != nil {
		return err
	}
	if req.MaxWait < 0 {
		return invalid("Request.MaxWait", req.MaxWait, "is negative: use 0 not to wait")
	}
	if req.FailureMode > FailOpen {
		return invalid("Request.FailureMode", uint8(req.FailureMode), "is neither FailClosed nor FailOpen: use one of them, or 0 for the Limiter's")
	}
	if err := checkLimits("Request.Limits", req.Limits); err != nil {
		return err
	}
	if err := checkLimits("Request.ParentLimits", req.ParentLimits); err != nil {
		return err
	}
	for name, amount := range req.Consume {
		if err := checkAmount("Request.Consume", name, amount, 0); err != nil {
			return err
		}
		known := req.UseStoredLimits || hasLimit(req.Limits, name) || req.Cascade && hasLimit(req.ParentLimits, name)
		if !known && len(req.Limits) > 0 {
			return invalid("Request.Consume", name, "is not the name of a limit of the call")
		}
	}
	if len(req.Limits) == 0 && !req.UseStoredLimits {
		return noLimits(req.Entity, req.Resource)
	}
	return nil
}

func hasLimit(limits []Limit, name string) bool {
	return slices.ContainsFunc(limits, func(l Limit) bool { return l.Name == name })
}

// checkLimits validates limits that are not, or not yet, charged.
func checkLimits(field string, limits []Limit) error {
	if len(limits) > maxLimits {
		return tooMany(field, len(limits))
	}
	for i := range limits {
		if err := limits[i].Validate(); err != nil {
			return err
		}
		for j := range i {
			if limits[j].Name == limits[i].Name {
				return twice(field, limits[i].Name)
			}
		}
	}
	return nil
}

func tooMany(field string, n int) error {
	return invalid(field, n, fmt.Sprintf("limits are more than %d", maxLimits))
}

func twice(field, name string) error { return invalid(field, name, "is there twice") }

func (l *Limiter) countUnknown(c *call) {
	if c.unknown {
		l.stats.unknownNames.Add(1)
	}
}

// lacks tells whether amounts has a name that no charge has.
func (c *call) lacks(amounts Amounts) bool {
	for name := range amounts {
		if !slices.ContainsFunc(c.charges, func(ch Charge) bool { return ch.Name == name }) {
			return true
		}
	}
	return false
}

// checkAmount returns a *ValidationError unless amount is in least to
// bucket.MaxAmount.
func checkAmount(field, name string, amount, least int64) error {
	if amount < least || amount > bucket.MaxAmount {
		return invalid(field+" "+name, amount, fmt.Sprintf("is not in %d to %d tokens", least, bucket.MaxAmount))
	}
	return nil
}

// exceeded is the refusal with the status of every limit.
func (c *call) exceeded(at time.Time, maxWait time.Duration) error {
	now, err := bucket.At(at)
	if err != nil {
		return err
	}
	e := &ExceededError{Statuses: make([]Status, 0, len(c.charges))}
	for i := range c.debits {
		key := c.debits[i].Key
		for _, ch := range c.debits[i].Charges {
			_, fits := ch.State.Take(now, ch.Amount, maxWait)
			e.Statuses = append(e.Statuses, Status{
				Entity:     key.Entity,
				Resource:   key.Resource,
				Limit:      limitOf(ch.Name, ch.Definition),
				Available:  ch.State.Available(now),
				Requested:  ch.Amount,
				Exceeded:   !fits,
				RetryAfter: ch.State.Wait(now, ch.Amount),
			})
		}
	}
	return e
}

func limitOf(name string, d bucket.Definition) Limit {
	return Limit{Name: name, Capacity: d.Capacity, Burst: d.Burst, RefillAmount: d.Amount, RefillPeriod: d.Period}
}

// delay is the time until all that was charged has refilled enough.
func (c *call) delay(at time.Time) time.Duration {
	now, err := bucket.At(at)
	if err != nil {
		return 0
	}
	var wait time.Duration
	for i := range c.charges {
		wait = max(wait, c.charges[i].Taken().Wait(now, 0))
	}
	return wait
}
