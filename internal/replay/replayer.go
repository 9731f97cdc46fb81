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
	holding  *zael.Policy // the slots among them, where requests are settled as well
	releases releases     // of slots, to come
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
	requirement               // of a rate
	limit                     zael.Limit
	name                      string
	settles                   bool
	drip, waitDrip            int64 // of a rate: at the current request, and at the end of its longest wait
	demand, admitted, refused int64
	overdrawn                 int64 // requests, of a soft limit
	peak                      int64 // highest level, in units

	// Of a rate, of the entity that is fullest.
	mark  int64
	taken bool // mark is set

	periods   *periodStats // of a quota or session
	slots     *slotStats
	scheduled *scheduledStats // of a rate with a schedule
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
	mark  int64 // as in the store
	taken bool  // mark is set

	periods   *periodBucket // of a quota or session
	slots     *slotBucket
	scheduled *bucket.State // of a rate with a schedule, as in the store
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
		stats, err := newLimitStats(l, o)
		if err != nil {
			return nil, err
		}
		p.limits = append(p.limits, stats)
		if stats.settles && p.settle == nil {
			p.settle = zael.Amounts{}
		}
	}
	if p.settle != nil && o.slots() {
		p.holding, err = zael.NewPolicy(cmp.Or(o.Resource, DefaultResource), slices.DeleteFunc(slices.Clone(o.Limits), func(l zael.Limit) bool {
			return l.Kind() != zael.KindSlots
		})...)
	}
	return p, err
}

func newLimitStats(l zael.Limit, o *Options) (limitStats, error) {
	d, err := l.Definition()
	if err != nil {
		return limitStats{}, err
	}
	_, settles := o.Settle[l.Name]
	s := limitStats{requirement: newRequirement(d, o.MaxWait), limit: l, name: l.Name, settles: settles}
	switch l.Kind() {
	case zael.KindQuota, zael.KindWindow:
		s.periods = newPeriodStats(d, o.EntityColumn != "")
	case zael.KindSlots:
		s.slots = &slotStats{least: 1}
	}
	if d.Schedule != nil {
		s.scheduled = &scheduledStats{definition: d}
		s.unit = 1
	}
	return s, nil
}

// isRate reports whether the limit has a mark, which moves along with an even axis.
func (l *limitStats) isRate() bool { return l.limit.Kind() == zael.KindRate && l.scheduled == nil }

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
		at       bucket.Instant
		line     int
		entity   string
		duration time.Duration
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
		requests = append(requests, stored{r.at, r.line, name, r.duration})
		amounts = append(append(amounts, r.take...), r.settle...)
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(requests[a].at, requests[b].at) })
	for _, i := range order {
		a := amounts[i*2*n : (i+1)*2*n]
		s := &requests[i]
		if err := p.replay(ctx, &request{line: s.line, at: s.at, entity: s.entity, duration: s.duration, take: a[:n], settle: a[n:]}); err != nil {
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
	if err := p.releaseUntil(ctx, r.at); err != nil {
		return err
	}
	entity := p.entity(r.entity, r.at)
	p.prepare(r)
	answer, err := p.ask(ctx, entity.id, r.take)
	if invalid, ok := errors.AsType[*zael.ValidationError](err); ok && invalid.Field == "Request.Entity" {
		entity.id = hashed(entity.id)
		answer, err = p.ask(ctx, entity.id, r.take)
	}
	if err != nil {
		return fmt.Errorf("line %d: %w", r.line, err)
	}
	p.note(&answer)
	if p.options.Decided != nil {
		if err := p.options.Decided(answer.decided(r, entity.id)); err != nil {
			return err
		}
	}
	if p.requests == 0 {
		p.begin(r.at)
	}
	p.lastAt = r.at
	p.requests++
	bin, limitBins := p.series.at(r.at)
	bin.requests++
	switch {
	case answer.Admitted:
		p.admitted++
		bin.admitted++
		if answer.delay > 0 {
			bin.waited++
			p.waits.add(answer.delay)
		}
	case !entity.refused:
		entity.refused = true
		p.refusedEntities++
	}
	for i := range p.limits {
		p.limits[i].observeRequest(r, i, &entity.buckets[i])
		p.count(i, r.settle[i], &limitBins[i])
		if answer.Admitted {
			p.limits[i].charge(r, i, &entity.buckets[i], &limitBins[i])
		}
		if q := p.limits[i].periods; q != nil {
			q.count(entity.buckets[i].periods, r.at, r.settle[i], p.exceeded[i])
		}
	}
	if p.options.slots() {
		p.holdSlots(r, entity, answer.lease, r.at.Add(answer.delay).Add(r.duration), limitBins)
	}
	return nil
}

// begin notes the first request.
func (p *replayer) begin(at bucket.Instant) {
	p.firstAt = at
	for i := range p.limits {
		if q := p.limits[i].periods; q != nil && q.definition.Calendar != nil {
			q.first, _ = q.definition.Calendar.Period(at)
		}
	}
}

// prepare sets the clock, and what the limits are at a request.
func (p *replayer) prepare(r *request) {
	p.now = r.at.Time()
	for i := range p.limits {
		l := &p.limits[i]
		if l.isRate() {
			l.drip = l.definition.Drip(r.at)
			l.waitDrip = l.drip
			if l.maxWait > 0 {
				l.waitDrip = l.definition.Drip(r.at.Add(l.maxWait))
			}
		}
		if l.settles {
			p.settle[l.name] = r.settle[i]
		}
		p.exceeded[i] = false
	}
}

// An answer is what came of a request.
type answer struct {
	zael.Decision
	delay time.Duration
	lease *zael.Lease // on the slots; nil if there are none
}

// ask takes from all limits of an entity, and settles if that is asked for.
func (p *replayer) ask(ctx context.Context, entity string, take []int64) (answer, error) {
	req := p.policy.For(entity, take...)
	if p.settle == nil && p.options.MaxWait == 0 && !p.options.slots() {
		d, err := p.limiter.Decide(ctx, req)
		return answer{Decision: d}, err
	}
	req.MaxWait = p.options.MaxWait
	lease, err := p.limiter.Reserve(ctx, req)
	if err != nil {
		if refusal, ok := errors.AsType[*zael.ExceededError](err); ok {
			return answer{Decision: refusal.Decision()}, nil
		}
		return answer{}, err
	}
	a := answer{Decision: lease.Decision(), delay: lease.Delay()}
	if p.settle != nil {
		if err := lease.Settle(p.settle); err != nil {
			return a, err
		}
	}
	switch {
	case !p.options.slots():
		return a, lease.Commit(ctx)
	case p.holding == nil:
		a.lease = lease
		return a, nil
	}
	// The commit settles and releases the slots, which are as free as they were: at this
	// instant they are taken again.
	if err := lease.Commit(ctx); err != nil {
		return a, err
	}
	var slots []int64
	for i := range p.limits {
		if p.limits[i].slots != nil {
			slots = append(slots, take[i])
		}
	}
	a.lease, err = p.limiter.Reserve(ctx, p.holding.For(entity, slots...))
	return a, err
}

// note notes which limits refused, and which are overdrawn.
func (p *replayer) note(a *answer) {
	for i := range p.limits {
		l := &p.limits[i]
		if a.Admitted && !l.limit.IsSoft() || i >= a.Len() {
			continue
		}
		status := a.Status(i)
		p.exceeded[i] = status.Exceeded
		if status.Overdrawn && a.Admitted {
			l.overdrawn++
		}
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

// observeRequest raises what the limit would have needed to refuse nothing. Slots are
// observed as they are held.
func (l *limitStats) observeRequest(r *request, i int, b *bucketStats) {
	switch {
	case l.isRate():
		l.observe(&b.lenientBucket, &observation{r.at, l.drip, l.waitDrip, r.take[i], r.settle[i]})
	case l.periods != nil:
		l.periods.observe(b.periods, r.at, r.take[i], r.settle[i])
	}
}

// charge counts the tokens of an admitted request, and follows its bucket.
func (l *limitStats) charge(r *request, i int, b *bucketStats, bin *limitBin) {
	tokens := r.settle[i]
	l.admitted = saturate.Add(l.admitted, tokens)
	bin.admitted = saturate.Add(bin.admitted, tokens)
	if l.periods != nil {
		used := l.periods.charge(b.periods, r.at, r.take[i], tokens)
		bin.level, l.peak = max(bin.level, used), max(l.peak, used)
	}
	if l.scheduled != nil {
		level := l.scheduled.charge(b.scheduled, r.at, r.take[i], tokens)
		bin.level, l.peak = max(bin.level, level), max(l.peak, level)
	}
	if tokens == 0 || !l.isRate() {
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

// level returns how full a limit's fullest bucket is at an instant after the last
// request, in units, and how full it would be if every request had been admitted, of slots.
func (p *replayer) level(limit int, at bucket.Instant) (level, lenient int64) {
	l := &p.limits[limit]
	switch {
	case l.periods != nil:
		return l.periods.level(at), 0
	case l.slots != nil:
		return l.slots.held.greatest, l.slots.lenient.greatest
	case l.scheduled != nil:
		return l.scheduled.level(at), 0
	case !l.taken:
		return 0, 0
	}
	return max(0, l.mark-l.definition.Drip(at)), 0
}

// entity returns the statistics of an entity. The name is empty, and the entity
// the same for all requests, where the trace has no entity column.
func (p *replayer) entity(name string, at bucket.Instant) *entityStats {
	if name == "" {
		if p.only == nil {
			p.only = p.newEntity(DefaultEntity, at)
		}
		return p.only
	}
	entity, ok := p.entities[name]
	if !ok {
		name = strings.Clone(name)
		entity = p.newEntity(name, at)
		p.entities[name] = entity
	}
	return entity
}

func (p *replayer) newEntity(id string, at bucket.Instant) *entityStats {
	e := &entityStats{id: id, buckets: make([]bucketStats, len(p.limits))}
	for i := range p.limits {
		switch l := &p.limits[i]; {
		case l.periods != nil:
			e.buckets[i].periods = l.periods.newBucket(at)
		case l.slots != nil:
			e.buckets[i].slots = new(slotBucket)
		case l.scheduled != nil:
			e.buckets[i].scheduled = new(bucket.State)
		}
	}
	return e
}

// hashed returns an entity for a name in the trace that no entity may have.
func hashed(name string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(name))) }
