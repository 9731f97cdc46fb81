package protocol_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/dynamostore/internal/protocol"
	"github.com/zeroae/zael/internal/coalesce"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
	"github.com/zeroae/zael/internal/testrig/schedules"
)

// The simulation runs the protocol, without clock and network, for several
// clients of one bucket: messages are lost, late and doubled, answers too; clocks
// differ; the item expires and is deleted; limits change. Every write that the
// engine applies is compared with package bucket, and what the clients were told
// with what was applied.

const (
	simSteps  = 60
	simLimits = 3
)

var simKey = zael.Key{Entity: "e", Resource: "r"}

// A world is one schedule.
type world struct {
	seed        uint64
	rng         *rand.Rand
	table       *dynamofake.Table
	now         bucket.Instant // true time
	events      []event
	clients     []*client
	takers      map[uint64]*running // by id of their write
	definitions []bucket.Definition
	current     map[string]bucket.Definition
	rev         int64
	counted     map[string]int64  // net tokens since the item was born, or the limit
	generations map[string]uint64 // the highest, after that of the item, of a limit that was removed
	takes       int64             // events since
	trace       []line
	is          *protocol.Record // the item, if it is known
	isKnown     bool
	calm        bool // one definition, no gives, no deletions: I1 can be summed up
	told        []admission
}

type event struct {
	at bucket.Instant
	n  int // tells events of one instant apart
	do func()
}

type client struct {
	name   int
	skew   bucket.Instant
	known  *protocol.Record
	latest bucket.Instant
	leases []zael.Charge
}

// A running is an operation of a client.
type running struct {
	*protocol.BucketWrite
	client  *client
	applied int // times
	tries   int
	round   int // of its messages: late answers to older ones count no more
	done    bool
	parts   []part // of a batch, in order
}

// An admission is a take that its client was told of.
type admission struct {
	at     bucket.Instant
	amount int64
}

type simError struct{ error }

func (w *world) failf(format string, args ...any) {
	panic(simError{fmt.Errorf(format, args...)})
}

func TestSimulation(t *testing.T) {
	t.Parallel()
	var sum tally
	var w *world
	n := 0
	for seed := range schedules.Seeds(t, 300) {
		var err error
		if w, err = simulate(seed, definitions, &sum); err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, w.text())
		}
		n++
	}
	if n == 1 {
		t.Logf("the schedule:\n%s", w.text())
	}
	t.Logf("%d schedules: %+v", n, sum)
	if n > 1 {
		for what, got := range map[string]int{
			"writes": sum.applied, "refusals": sum.refused, "gives": sum.gives, "conversions": sum.conversions, "lost": sum.lost,
			"repetitions": sum.repeated, "expired": sum.expired, "deleted": sum.deleted, "stale": sum.stale, "undone": sum.undone, "kept": sum.kept,
			"batches": sum.batches, "done apart": sum.apart, "forgotten": sum.forgotten, "forgotten and back": sum.back,
		} {
			if got < n/50 {
				t.Errorf("%s in %d schedules: got %d, too few to tell anything", what, n, got)
			}
		}
	}
}

// A tally is what the schedules were made of.
type tally struct {
	settled, applied, refused, gives, conversions, lost, repeated, expired, deleted, stale, undone, kept, contended, calls, ops, batches, apart, forgotten, back int
}

func simulate(seed uint64, definitions []bucket.Definition, sum *tally) (w *world, err error) {
	w = &world{
		seed: seed, rng: rand.New(rand.NewPCG(seed, 7)), table: dynamofake.New(), now: bucket.Instant(400 * 24 * time.Hour),
		takers: map[uint64]*running{}, definitions: definitions, current: map[string]bucket.Definition{}, counted: map[string]int64{}, generations: map[string]uint64{},
	}
	defer func() {
		switch p := recover().(type) {
		case nil:
		case simError:
			err = p.error
		default:
			panic(p)
		}
	}()
	w.calm = seed%4 == 0 && !slices.ContainsFunc(definitions, func(d bucket.Definition) bool { return !d.Plain() })
	for i := range 2 + w.rng.IntN(3) {
		c := &client{name: i}
		if w.rng.IntN(2) == 0 {
			c.skew = bucket.Instant(w.rng.Int64N(int64(4*time.Second))) - bucket.Instant(2*time.Second)
		}
		w.clients = append(w.clients, c)
	}
	at := w.now
	for range simSteps {
		switch w.rng.IntN(24) {
		case 0, 1:
			at += bucket.Instant(w.rng.Int64N(int64(time.Minute)))
		case 2, 3:
			at += bucket.Instant(w.rng.Int64N(int64(3 * time.Hour)))
		case 4:
			at += bucket.Instant(w.rng.Int64N(int64(40 * time.Hour)))
		default:
			at += bucket.Instant(w.rng.Int64N(int64(400 * time.Millisecond)))
		}
		w.schedule(at, func() { w.act(sum) })
	}
	w.run()
	w.summed()
	w.notStuck()
	return w, nil
}

func (w *world) schedule(at bucket.Instant, do func()) {
	e := event{at: at, n: len(w.trace)<<20 + len(w.events), do: do}
	i, _ := slices.BinarySearchFunc(w.events, e, func(a, b event) int {
		if a.at != b.at {
			return int(min(max(a.at-b.at, -1), 1))
		}
		return a.n - b.n
	})
	w.events = slices.Insert(w.events, i, e)
}

func (w *world) run() {
	for len(w.events) > 0 {
		e := w.events[0]
		w.events = w.events[1:]
		w.now = max(w.now, e.at)
		e.do()
	}
}

// id is far from all others, as births and changes are added up.
func (w *world) id() uint64 { return w.rng.Uint64() }

func (w *world) clock(c *client) bucket.Instant { return w.now + c.skew }

// act begins something.
func (w *world) act(sum *tally) {
	c := w.clients[w.rng.IntN(len(w.clients))]
	switch n := w.rng.IntN(20); {
	case n == 0 && !w.calm:
		w.drop()
		w.forget()
		sum.deleted++
		w.logf("deleted")
	case n < 3:
		w.expire(sum)
	case n == 3:
		c.known = nil // the cache is bounded
	case n < 9 && len(c.leases) > 0 && !w.calm:
		w.begin(c, coalesce.Adjust, w.settlement(c), sum)
	case n < 11 && !w.calm:
		w.begin(c, coalesce.Adjust, w.charges(func(d bucket.Definition) int64 { return w.amount(d) }), sum)
	default:
		w.begin(c, coalesce.Take, w.charges(w.amount), sum)
	}
}

// expire deletes the item if it may be.
func (w *world) expire(sum *tally) {
	r := w.record()
	if r == nil || w.now.Time().Unix() < r.Expiry() {
		return
	}
	for _, name := range r.Names() {
		if s := r.State(name); !s.Full(w.now - bucket.Instant(59*time.Minute)) {
			w.failf("expired at %v: %q is not full since an hour: %+v", time.Duration(w.now), name, s)
		}
	}
	w.drop()
	w.forget()
	sum.expired++
	w.logf("expired")
}

func (w *world) forget() {
	clear(w.counted)
	clear(w.generations)
	w.takes = 0
}

func (w *world) definition(name string) bucket.Definition {
	d, ok := w.current[name]
	if ok && (w.calm || w.rng.IntN(8) > 0) {
		return d
	}
	d = w.definitions[w.rng.IntN(len(w.definitions))]
	d.Rev = 0
	if w.rng.IntN(2) == 0 {
		w.rev++
		d.Rev = w.rev
		if w.rng.IntN(3) == 0 {
			d.Rev = max(1, w.rev-w.rng.Int64N(3))
		}
	}
	w.current[name] = d
	return d
}

func (w *world) amount(d bucket.Definition) int64 {
	switch w.rng.IntN(6) {
	case 0:
		return 0
	case 1:
		return d.Burst
	case 2:
		return min(d.Burst+1, bucket.MaxAmount)
	}
	return 1 + w.rng.Int64N(max(1, d.Burst/3))
}

// charges are of one limit to all of them.
func (w *world) charges(amount func(bucket.Definition) int64) []zael.Charge {
	names := []string{"rpm", "to-kens.in", "größe #1"}[:simLimits]
	if w.calm {
		names = names[:1]
	}
	w.rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	var all []zael.Charge
	for _, name := range names[:1+w.rng.IntN(len(names))] {
		d := w.definition(name)
		all = append(all, zael.Charge{Name: name, Definition: d, Amount: amount(d)})
	}
	return all
}

// settlement gives some of a lease back, and may charge others.
func (w *world) settlement(c *client) []zael.Charge {
	var all []zael.Charge
	for range 1 + w.rng.IntN(2) {
		lease := c.leases[w.rng.IntN(len(c.leases))]
		if lease.Amount = -(1 + w.rng.Int64N(max(lease.Amount, 1))); !rate(lease.Definition) && w.rng.IntN(3) == 0 {
			lease.Amount = 1 + w.rng.Int64N(5)
		}
		all = append(all, lease)
	}
	if w.rng.IntN(3) == 0 {
		all = append(all, w.charges(w.amount)...)
	}
	return all
}

func (w *world) begin(c *client, kind coalesce.Kind, charges []zael.Charge, sum *tally) {
	wait := time.Duration(0)
	if w.rng.IntN(4) == 0 {
		wait = time.Duration(w.rng.Int64N(int64(10 * time.Second)))
	}
	o := newWrite(kind, charges, w.clock(c), w.id())
	o.MaxWait = wait
	o.Begin(observed(c.known, o.At))
	o.Seen = max(o.At, c.latest)
	r := &running{BucketWrite: o, client: c}
	if kind == coalesce.Take && w.rng.IntN(3) == 0 {
		w.coalesce(r)
		sum.batches++
	}
	w.takers[o.ID] = r
	sum.ops++
	w.logf("client %d: %s", c.name, textOf(o))
	w.step(r, sum)
}

// newWrite returns a write of the only bucket.
func newWrite(kind coalesce.Kind, charges []zael.Charge, at bucket.Instant, id uint64) *protocol.BucketWrite {
	w := &protocol.BucketWrite{Batch: coalesce.Batch{Key: simKey, Kind: kind, Charges: charges, At: at, Members: 1}, ID: id, Index: "R#r#0"}
	if kind == coalesce.Take {
		w.Events = 1
	}
	return w
}

// observed returns what a client remembers, nil if that is nothing.
func observed(r *protocol.Record, at bucket.Instant) *protocol.Observation {
	if r == nil {
		return nil
	}
	return &protocol.Observation{Record: r, At: at, Latest: at}
}

func (w *world) delay() bucket.Instant {
	if w.rng.IntN(10) == 0 {
		return bucket.Instant(w.rng.Int64N(int64(3 * time.Second)))
	}
	return bucket.Instant(w.rng.Int64N(int64(20 * time.Millisecond)))
}

// step does what the op's plan says.
func (w *world) step(r *running, sum *tally) {
	plan := r.Plan()
	r.round++
	round := r.round
	switch plan.Action {
	case protocol.Read:
		w.schedule(w.now+w.delay(), func() {
			got := w.record()
			w.schedule(w.now+w.delay(), func() {
				if r.done || r.round != round {
					return
				}
				sum.calls++
				w.learn(r.client, got, r)
				r.Learn(got)
				w.step(r, sum)
			})
		})
	case protocol.Send:
		in := updateInput(&plan.Update)
		forgot := r.LostAnswers() > 0 // to give
		gives := !forgot && slices.ContainsFunc(r.Charges, func(c zael.Charge) bool { return c.Amount < 0 })
		copies := 1
		switch n := w.rng.IntN(20); {
		case n == 0:
			copies = 0
		case n == 1 && !gives: // which nobody sends twice
			copies = 2
		}
		sum.calls++
		for range copies {
			w.schedule(w.now+w.delay(), func() {
				before := w.record()
				out, err := w.table.UpdateItem(context.Background(), in)
				_, isFailed := errors.AsType[*types.ConditionalCheckFailedException](err)
				if err != nil && !isFailed {
					w.failf("op %x: %w\n%s\n%s", r.ID, err, *in.ConditionExpression, *in.UpdateExpression)
				}
				is := before
				if !isFailed {
					is = w.written(out.Attributes)
					w.logf("op %x applied", r.ID)
					w.compare(r, before, is, out.Attributes, forgot, sum)
				}
				if w.rng.IntN(15) == 0 {
					return // the answer is lost
				}
				w.schedule(w.now+w.delay(), func() { w.answer(r, round, is, !isFailed, sum) })
			})
		}
		w.schedule(w.now+bucket.Instant(500*time.Millisecond), func() { w.timeout(r, round, sum) })
	case protocol.Finish:
		r.done = true
		if plan.Outcome != coalesce.Applied {
			w.end(r, plan.Outcome, plan.Err, sum)
		} else if k := r.Known(); k != nil && k.LastWrite() == r.ID {
			w.failf("op %x: was applied, and ends with nothing to do", r.ID)
		}
	}
}

func (w *world) learn(c *client, r *protocol.Record, o *running) {
	at := o.At
	c.known = r
	c.latest = max(c.latest, at)
}

func (w *world) answer(r *running, round int, is *protocol.Record, ok bool, sum *tally) {
	if r.done || r.round != round {
		return
	}
	w.learn(r.client, is, r)
	if r.Answered(is, ok) {
		r.done = true
		if ok && r.LostAnswers() > 0 {
			sum.repeated++
		}
		w.end(r, coalesce.Applied, nil, sum)
		return
	}
	w.step(r, sum)
}

// timeout is the end of a call without an answer.
func (w *world) timeout(r *running, round int, sum *tally) {
	if r.done || r.round != round {
		return
	}
	r.Lost()
	sum.lost++
	w.logf("op %x: no answer", r.ID)
	if r.tries++; r.tries > 4 || !r.Repeats() {
		r.done = true
		return
	}
	w.step(r, sum)
}
