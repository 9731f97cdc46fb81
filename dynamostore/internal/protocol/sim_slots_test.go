package protocol_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/dynamostore/internal/protocol"
	"github.com/zeroae/zael/internal/coalesce"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
	"github.com/zeroae/zael/internal/testrig/schedules"
)

// The simulation of slots: processes that hold them, whose messages are lost, late and
// doubled, whose clocks differ by half a hold, that stop for a while and that die. What
// they hold is compared with the number of slots, and the entries in the item with
// their sum.

const simHold = 60 * time.Second

// A slotWorld is one schedule.
type slotWorld struct {
	world
	processes []*slotProcess
	slots     int64 // the greatest number in force so far
	sum       *slotTally
}

type slotTally struct {
	takes, refused, released, renewed, lost, again, failed, reclaimed, died, most, settled, expired int
}

// A slotProcess is a process and its leases.
type slotProcess struct {
	skew   bucket.Instant
	id     string
	dead   bool
	held   *protocol.Held
	known  *protocol.Record
	leases []*slotLease
	busy   bool
}

type slotLease struct {
	charge zael.Charge
	rate   zael.Charge
	acked  bucket.Instant // when the last call that was answered began
	lost   bool
}

func TestSimulationOfSlots(t *testing.T) {
	t.Parallel()
	var sum slotTally
	n := 0
	for seed := range schedules.Seeds(t, 350) {
		w := &slotWorld{sum: &sum}
		if err := w.simulate(seed); err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, w.text())
		}
		n++
	}
	t.Logf("%d schedules: %+v", n, sum)
	if n > 1 {
		for what, got := range map[string]int{
			"takes": sum.takes, "refused": sum.refused, "released": sum.released, "renewed": sum.renewed, "lost": sum.lost, "taken again": sum.again,
			"failed": sum.failed, "reclaimed": sum.reclaimed, "died": sum.died, "all in use": sum.most, "settled": sum.settled,
			"expired": sum.expired,
		} {
			if got < n/50 {
				t.Errorf("%s in %d schedules: got %d, too few to tell anything", what, n, got)
			}
		}
	}
}

func (w *slotWorld) simulate(seed uint64) (err error) {
	w.world = world{seed: seed, rng: rand.New(rand.NewPCG(seed, 11)), table: dynamofake.New(), now: bucket.Instant(400 * 24 * time.Hour)}
	defer func() {
		switch p := recover().(type) {
		case nil:
		case simError:
			err = p.error
		default:
			panic(p)
		}
	}()
	for i := range 2 + w.rng.IntN(4) {
		p := &slotProcess{id: "p" + strconv.Itoa(i)}
		p.skew = w.skew()
		w.processes = append(w.processes, p)
		for step := range 40 {
			at := w.now + bucket.Instant(time.Duration(step)*5*time.Second) + bucket.Instant(w.rng.Int64N(int64(5*time.Second)))
			if seed%3 == 0 && step >= 20 { // the item has expired meanwhile
				at += bucket.Instant(3 * time.Hour)
			}
			w.schedule(at, func() { w.act(p) })
		}
	}
	w.run()
	w.freeInTheEnd()
	return nil
}

func (w *slotWorld) definition() bucket.Definition {
	n := int64(3)
	if w.rng.IntN(10) == 0 {
		n = 2 + w.rng.Int64N(3)
	}
	w.slots = max(w.slots, n)
	return bucket.Definition{Kind: bucket.Slots, Burst: n, Capacity: n, Period: simHold}
}

func simRate() bucket.Definition {
	return bucket.Definition{Burst: 1000, Amount: 1000, Period: time.Minute, Capacity: 1000}
}

func (w *slotWorld) skew() bucket.Instant {
	return bucket.Instant(w.rng.Int64N(int64(simHold/2))) - bucket.Instant(simHold/4)
}

// act begins something in a process.
func (w *slotWorld) act(p *slotProcess) {
	if p.dead || p.busy {
		return
	}
	if w.rng.IntN(20) == 0 {
		p.skew = w.skew() // the clock was set
	}
	if is := w.record(); is != nil && w.now.Time().Unix() >= is.Expiry() {
		w.drop()
		w.sum.expired++
	}
	switch n := w.rng.IntN(40); {
	case n == 0:
		p.dead = true
		p.leases = nil // a dead process makes no calls
		w.sum.died++
		w.logf("%s dies", p.id)
	case n == 1: // stopped, or cut off
		p.busy = true
		w.schedule(w.now+bucket.Instant(w.rng.Int64N(int64(3*simHold))), func() { p.busy = false })
		w.logf("%s is stopped", p.id)
	case n < 14 && len(p.leases) > 0:
		i := w.rng.IntN(len(p.leases))
		l := p.leases[i]
		p.leases = slices.Delete(p.leases, i, i+1)
		charges := []zael.Charge{back(l.charge)}
		if w.rng.IntN(2) == 0 {
			charges = append(charges, back(l.rate))
			w.sum.settled++
		}
		w.sum.released++
		w.begin(p, coalesce.Adjust, charges)
	case n < 28 && len(p.leases) > 0:
		groups := map[uint64]int64{}
		for _, l := range p.leases {
			groups[l.charge.Receipt.Generation] += l.charge.Amount
		}
		l := p.leases[w.rng.IntN(len(p.leases))]
		c := l.charge
		c.Amount = groups[c.Receipt.Generation]
		if l.lost { // all are taken again, by a take
			w.begin(p, coalesce.Take, []zael.Charge{c})
			return
		}
		w.begin(p, coalesce.Renew, []zael.Charge{c})
	default:
		w.begin(p, coalesce.Take, []zael.Charge{
			{Name: "parallel", Definition: w.definition(), Amount: 1 + w.rng.Int64N(2) + 3*(w.rng.Int64N(10)/9)}, {Name: "rpm", Definition: simRate(), Amount: 1},
		})
	}
}

func back(c zael.Charge) zael.Charge {
	c.Amount = -c.Amount
	return c
}

// A slotRun is an operation of a process.
type slotRun struct {
	*protocol.BucketWrite
	process *slotProcess
	begun   bucket.Instant
	sends   int
	round   int
	done    bool
}

func (w *slotWorld) begin(p *slotProcess, kind coalesce.Kind, charges []zael.Charge) {
	p.busy = true
	o := newWrite(kind, charges, w.now+p.skew, w.id())
	o.Holder = p.id
	if p.held != nil {
		if kind == coalesce.Adjust {
			*p.held = p.held.Release(charges)
		}
		o.SetHeld(*p.held)
	}
	o.Begin(observed(p.known, o.At))
	w.logf("%s begins op %x kind %d %+v", p.id, o.ID, kind, charges[0].Amount)
	w.step(&slotRun{BucketWrite: o, process: p, begun: w.now})
}

func (w *slotWorld) step(r *slotRun) {
	plan := r.Plan()
	r.round++
	round := r.round
	switch plan.Action {
	case protocol.Finish:
		w.end(r, plan.Outcome)
	case protocol.Read:
		w.schedule(w.now+w.delay(), func() {
			if r.process.dead || r.done {
				return
			}
			r.Learn(w.record())
			w.step(r)
		})
	case protocol.Send:
		in := updateInput(&plan.Update)
		r.sends++
		copies := 1
		switch w.rng.IntN(20) {
		case 0:
			copies = 0
		case 1:
			copies = 2
		}
		for range copies {
			delay := w.delay()
			if w.rng.IntN(20) == 0 {
				delay = bucket.Instant(w.rng.Int64N(int64(2 * simHold))) // very late
			}
			w.schedule(w.now+delay, func() { w.arrive(r, round, in) })
		}
		w.schedule(w.now+bucket.Instant(500*time.Millisecond), func() { w.slotTimeout(r, round) })
	}
}

// arrive is a message that reaches the table.
func (w *slotWorld) arrive(r *slotRun, round int, input *dynamodb.UpdateItemInput) {
	before := w.record()
	out, err := w.table.UpdateItem(context.Background(), input)
	_, isFailed := errors.AsType[*types.ConditionalCheckFailedException](err)
	is := before
	switch {
	case isFailed:
	case err == nil:
		is = w.written(out.Attributes)
		w.logf("op %x applied", r.ID)
		w.consistent(is)
		w.sum.reclaimed += max(0, len(before.Slots("").Holders)-len(is.Slots("").Holders))
	default:
		w.failf("op %x: %w\n%s\n%s", r.ID, err, *input.ConditionExpression, *input.UpdateExpression)
	}
	if w.rng.IntN(15) == 0 {
		return // the answer is lost
	}
	w.schedule(w.now+w.delay(), func() {
		if r.done || r.round != round || r.process.dead {
			return
		}
		r.process.known = is
		if r.Answered(is, !isFailed) {
			w.end(r, coalesce.Applied)
			return
		}
		w.step(r)
	})
}

func (w *slotWorld) slotTimeout(r *slotRun, round int) {
	if r.done || r.round != round || r.process.dead {
		return
	}
	r.Lost()
	w.sum.lost++
	if r.sends > 3 || !r.Repeats() {
		w.end(r, coalesce.Failed)
		return
	}
	w.step(r)
}

// end is what a process learns of an operation.
func (w *slotWorld) end(r *slotRun, outcome coalesce.Outcome) {
	p := r.process
	r.done, p.busy = true, false
	held := r.Held()
	p.held = &held
	w.logf("%s ends op %x with outcome %d, and has %+v", p.id, r.ID, outcome, held)
	switch {
	case outcome == coalesce.Failed:
		w.sum.failed++
	case r.Kind == coalesce.Take && outcome == coalesce.Applied && len(r.Charges) == 1:
		w.takenAgain(r)
	case r.Kind == coalesce.Take && outcome == coalesce.Applied:
		w.sum.takes++
		l := &slotLease{charge: r.Charges[0], rate: r.Charges[1], acked: r.begun}
		l.charge.Receipt = bucket.Receipt{Generation: coalesce.StateOf(r.Known(), &l.charge).Generation}
		l.rate.Receipt = r.Known().State("rpm").Receipt()
		p.leases = append(p.leases, l)
	case r.Kind == coalesce.Take:
		w.sum.refused++
	case r.Kind == coalesce.Renew:
		w.renewed(r)
	}
	if outcome == coalesce.Applied {
		w.sameEntry(r)
	}
	total := int64(0)
	for _, p := range w.processes {
		for _, l := range p.leases {
			if !l.lost && w.now-l.acked < bucket.Instant(simHold/2) {
				total += l.charge.Amount
			}
		}
	}
	if total > w.slots {
		w.failf("%d slots are held of %d", total, w.slots)
	}
	if total == w.slots {
		w.sum.most++
	}
}

// sameEntry checks that the entry of a process, which has just written it, is what its leases
// hold.
func (w *slotWorld) sameEntry(r *slotRun) {
	for _, h := range r.Known().Slots("").Holders {
		if h.ID != r.process.id {
			continue
		}
		sum := int64(0)
		for _, l := range r.process.leases {
			if l.charge.Receipt.Generation == h.Generation {
				sum += l.charge.Amount
			}
		}
		if sum != h.Count("parallel") {
			w.failf("%s holds %d, and its entry says %+v", h.ID, sum, h)
		}
	}
}

// renewed is the answer to a renewal: whether the entry is still there.
func (w *slotWorld) renewed(r *slotRun) {
	generation := r.Charges[0].Receipt.Generation
	held := coalesce.StateOf(r.Known(), &r.Charges[0]).Generation == generation
	for _, l := range r.process.leases {
		if l.charge.Receipt.Generation != generation {
			continue
		}
		if l.lost = !held; held {
			w.sum.renewed++
			l.acked = r.begun
		}
	}
}

// takenAgain is the answer to a take of all that was lost of an entry.
func (w *slotWorld) takenAgain(r *slotRun) {
	is := coalesce.StateOf(r.Known(), &r.Charges[0]).Generation
	for _, l := range r.process.leases {
		if l.lost && l.charge.Receipt.Generation == r.Charges[0].Receipt.Generation {
			w.sum.again++
			l.lost, l.acked, l.charge.Receipt.Generation = false, r.begun, is
		}
	}
}

// consistent checks that the totals are the sums of the entries.
func (w *slotWorld) consistent(r *protocol.Record) {
	b := r.Slots("")
	for _, l := range b.Limits {
		sum := int64(0)
		for i := range b.Holders {
			sum += b.Holders[i].Count(l.Name)
		}
		if sum != l.State.Used {
			w.failf("%d are held of %s by %+v", l.State.Used, l.Name, b.Holders)
		}
		if sum > w.slots {
			w.failf("%d of %s are in the item, of %d", sum, l.Name, w.slots)
		}
	}
}

// freeInTheEnd takes all slots when all holders have been silent for a hold.
func (w *slotWorld) freeInTheEnd() {
	w.now += bucket.Instant(4 * simHold)
	d := bucket.Definition{Kind: bucket.Slots, Burst: 3, Capacity: 3, Period: simHold}
	o := newWrite(coalesce.Take, []zael.Charge{{Name: "parallel", Definition: d, Amount: 3}}, w.now, w.id())
	o.Holder = "last"
	o.Begin(nil)
	for range 3 {
		plan := o.Plan()
		if plan.Action != protocol.Send {
			w.failf("all slots are free, and are refused with outcome %d: %+v", plan.Outcome, w.record().Slots(""))
		}
		before := w.record()
		out, err := w.table.UpdateItem(context.Background(), updateInput(&plan.Update))
		if err == nil {
			w.consistent(w.written(out.Attributes))
			return
		}
		_, ok := errors.AsType[*types.ConditionalCheckFailedException](err)
		if !ok {
			w.failf("%w", err)
		}
		o.Answered(before, false)
	}
	w.failf("all slots are free, and are not taken in 3 calls: %s", fmt.Sprint(w.record().Slots("")))
}
