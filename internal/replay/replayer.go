package replay

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/saturate"
)

// progressEvery is the number of requests between two calls of Options.Progress,
// and between two looks at the context.
const progressEvery = 1024

// storeTimeout is how long a request may take in the store. It is generous: no
// caller waits, and a store that is slow for a while must not end the run.
const storeTimeout = 30 * time.Second

// A replayer sends the requests of a trace through a Limiter, in virtual time, and
// keeps the statistics.
type replayer struct {
	options  *Options
	limiter  *zael.Limiter
	now      time.Time    // of the virtual clock
	policy   *zael.Policy // the limits
	settle   zael.Amounts // nil if no limit is settled
	exceeded []bool       // limits that refused the current request

	limits   []limitStats
	entities map[string]*entityStats // by name in the trace
	only     *entityStats            // the one entity of a trace without an entity column
	series   series
	waits    *waits

	requests, admitted int64
	refusedEntities    int64
	firstAt, lastAt    bucket.Instant
}

// A limitStats has the statistics of one limit, over all entities.
type limitStats struct {
	requirement
	name                      string
	settles                   bool
	drip, waitDrip            int64 // at the current request, and at the end of its longest wait
	demand, admitted, refused int64
	peak                      int64 // highest level, in units

	// Of the entity that is fullest.
	mark  int64
	taken bool         // mark is set
	state bucket.State // instead of mark, of a limit that is not a plain rate
}

// An entityStats has the statistics of one entity.
type entityStats struct {
	id      string // in the store
	refused bool   // at least once
	buckets []bucketStats
}

// A bucketStats follows one limit of one entity.
type bucketStats struct {
	lenientBucket
	mark  int64        // as in the store
	taken bool         // mark is set
	state bucket.State // instead of mark, of a limit that is not a plain rate
}

func newReplayer(store zael.Store, o *Options) (*replayer, error) {
	p := &replayer{
		options:  o,
		entities: map[string]*entityStats{},
		waits:    newWaits(o.MaxWait),
		exceeded: make([]bool, len(o.Limits)),
	}
	p.series = series{limits: len(o.Limits), level: p.level}
	var err error
	p.limiter, err = zael.New(store, &zael.Config{Clock: func() time.Time { return p.now }, Timeout: storeTimeout})
	if err != nil {
		return nil, err
	}
	if p.policy, err = zael.NewPolicy(cmp.Or(o.Resource, DefaultResource), o.Limits...); err != nil {
		return nil, err
	}
	for _, l := range o.Limits {
		if l.Kind() == zael.KindSlots {
			return nil, fmt.Errorf("limit %s: a trace does not tell how long slots are held: leave it out", l)
		}
		_, settles := o.Settle[l.Name]
		p.limits = append(p.limits, limitStats{requirement: newRequirement(l, o.MaxWait), name: l.Name, settles: settles})
		if settles && p.settle == nil {
			p.settle = zael.Amounts{}
		}
	}
	return p, nil
}

// runInOrder replays requests in the order of the file.
func (p *replayer) runInOrder(ctx context.Context, t *trace) error {
	for {
		r, err := t.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if p.requests > 0 && r.at < p.lastAt {
			e := &RowError{Reason: fmt.Sprintf("%s is before the row above it (%s)", formatTime(r.at), formatTime(p.lastAt)), Remedy: "use --sort"}
			e.Line, e.Column = t.rows.position(t.time)
			return e
		}
		if err := p.replay(ctx, r); err != nil {
			return err
		}
	}
}

// runSorted reads the whole trace and replays its requests in the order of time.
func (p *replayer) runSorted(ctx context.Context, t *trace) error {
	type stored struct {
		at     bucket.Instant
		line   int
		entity string
	}
	var requests []stored
	var order []int
	var amounts []int64 // take and settle of each request
	names := map[string]string{}
	n := len(p.limits)
	for {
		r, err := t.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if len(requests)%progressEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		name, ok := names[r.entity]
		if !ok {
			name = strings.Clone(r.entity)
			names[name] = name
		}
		order = append(order, len(requests))
		requests = append(requests, stored{r.at, r.line, name})
		amounts = append(append(amounts, r.take...), r.settle...)
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(requests[a].at, requests[b].at) })
	for _, i := range order {
		a := amounts[i*2*n : (i+1)*2*n]
		s := &requests[i]
		if err := p.replay(ctx, &request{line: s.line, at: s.at, entity: s.entity, take: a[:n], settle: a[n:]}); err != nil {
			return err
		}
	}
	return nil
}

// replay sends one request through the Limiter and counts the outcome.
func (p *replayer) replay(ctx context.Context, r *request) error {
	if p.requests%progressEvery == 0 {
		if p.options.Progress != nil {
			p.options.Progress(p.requests)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	entity := p.entity(r.entity)
	p.prepare(r)
	admitted, delay, err := p.ask(ctx, entity.id, r.take)
	if invalid, ok := errors.AsType[*zael.ValidationError](err); ok && invalid.Field == "Request.Entity" {
		entity.id = hashed(entity.id)
		admitted, delay, err = p.ask(ctx, entity.id, r.take)
	}
	if err != nil {
		return fmt.Errorf("line %d: %w", r.line, err)
	}
	if p.requests == 0 {
		p.firstAt = r.at
	}
	p.lastAt = r.at
	p.requests++
	bin, limitBins := p.series.at(r.at)
	bin.requests++
	switch {
	case admitted:
		p.admitted++
		bin.admitted++
		if delay > 0 {
			bin.waited++
			p.waits.add(delay)
		}
	case !entity.refused:
		entity.refused = true
		p.refusedEntities++
	}
	for i := range p.limits {
		l := &p.limits[i]
		l.observe(&entity.buckets[i].lenientBucket, &observation{r.at, l.drip, l.waitDrip, r.take[i], r.settle[i]})
		p.count(i, r.settle[i], &limitBins[i])
		if admitted {
			l.charge(r.at, r.settle[i], &entity.buckets[i], &limitBins[i])
		}
	}
	return nil
}

// prepare sets the clock, and what the limits are at a request.
func (p *replayer) prepare(r *request) {
	p.now = r.at.Time()
	for i := range p.limits {
		l := &p.limits[i]
		p.exceeded[i] = false
		if l.settles {
			p.settle[l.name] = r.settle[i]
		}
		if !l.definition.Plain() {
			continue
		}
		l.drip = l.definition.Drip(r.at)
		l.waitDrip = l.drip
		if l.maxWait > 0 {
			l.waitDrip = l.definition.Drip(r.at.Add(l.maxWait))
		}
	}
}

// ask takes from all limits of an entity, and settles if that is asked for.
func (p *replayer) ask(ctx context.Context, entity string, take []int64) (admitted bool, delay time.Duration, err error) {
	req := p.policy.For(entity, take...)
	if p.settle == nil && p.options.MaxWait == 0 {
		d, err := p.limiter.Decide(ctx, req)
		p.note(&d)
		return d.Admitted, 0, err
	}
	req.MaxWait = p.options.MaxWait
	lease, err := p.limiter.Reserve(ctx, req)
	if err != nil {
		if refusal, ok := errors.AsType[*zael.ExceededError](err); ok {
			d := refusal.Decision()
			p.note(&d)
			return false, 0, nil
		}
		return false, 0, err
	}
	if p.settle != nil {
		if err := lease.Settle(p.settle); err != nil {
			return false, 0, err
		}
	}
	return true, lease.Delay(), lease.Commit(ctx)
}

// note notes which limits refused.
func (p *replayer) note(d *zael.Decision) {
	if d.Admitted {
		return
	}
	for i := range d.Len() {
		p.exceeded[i] = d.Status(i).Exceeded
	}
}

// count counts the demand for a limit, and its refusal.
func (p *replayer) count(limit int, tokens int64, bin *limitBin) {
	l := &p.limits[limit]
	l.demand = saturate.Add(l.demand, tokens)
	bin.demand = saturate.Add(bin.demand, tokens)
	if p.exceeded[limit] {
		l.refused++
		bin.refused++
	}
}

// charge counts the tokens of an admitted request, and follows the mark of its
// bucket.
func (l *limitStats) charge(at bucket.Instant, tokens int64, b *bucketStats, bin *limitBin) {
	l.admitted = saturate.Add(l.admitted, tokens)
	bin.admitted = saturate.Add(bin.admitted, tokens)
	if tokens == 0 {
		return
	}
	if !l.definition.Plain() {
		l.chargeState(at, tokens, b, bin)
		return
	}
	mark := l.drip
	if b.taken {
		mark = max(mark, b.mark)
	}
	b.mark, b.taken = mark+tokens*l.unit, true // the store has checked that it fits
	if !l.taken || b.mark > l.mark {
		l.mark, l.taken = b.mark, true
	}
	level := b.mark - l.drip
	bin.level = max(bin.level, level)
	l.peak = max(l.peak, level)
}

// chargeState is charge for a limit that is not a plain rate.
func (l *limitStats) chargeState(at bucket.Instant, tokens int64, b *bucketStats, bin *limitBin) {
	if b.state.Absent() {
		b.state = b.state.Redefine(l.definition, at, 0)
	}
	next, err := b.state.Charge(at, tokens)
	if err != nil {
		return // more than can be counted
	}
	b.state = next
	level := l.levelOf(&b.state, at)
	if l.state.Absent() || level >= l.levelOf(&l.state, at) {
		l.state = b.state
	}
	bin.level = max(bin.level, level)
	l.peak = max(l.peak, level)
}

// levelOf returns what is used of a limit that is not a plain rate.
func (l *limitStats) levelOf(s *bucket.State, at bucket.Instant) int64 {
	if l.definition.Flags&(bucket.Block|bucket.Unlimited) != 0 {
		return 0
	}
	return (l.definition.Burst - s.Available(at)) * l.unit
}

// level returns how full a limit's fullest bucket is at an instant after the last
// request, in units.
func (p *replayer) level(limit int, at bucket.Instant) int64 {
	l := &p.limits[limit]
	switch {
	case !l.state.Absent():
		return max(0, l.levelOf(&l.state, at))
	case !l.taken:
		return 0
	}
	return max(0, l.mark-l.definition.Drip(at))
}

// entity returns the statistics of an entity. The name is empty, and the entity
// the same for all requests, where the trace has no entity column.
func (p *replayer) entity(name string) *entityStats {
	if name == "" {
		if p.only == nil {
			p.only = p.newEntity(DefaultEntity)
		}
		return p.only
	}
	entity, ok := p.entities[name]
	if !ok {
		name = strings.Clone(name)
		entity = p.newEntity(name)
		p.entities[name] = entity
	}
	return entity
}

func (p *replayer) newEntity(id string) *entityStats {
	return &entityStats{id: id, buckets: make([]bucketStats, len(p.limits))}
}

// hashed returns an entity for a name in the trace that no entity may have.
func hashed(name string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(name))) }
