package protocol_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/dynamostore/internal/protocol"
	"github.com/zeroae/zael/internal/coalesce"
)

// end compares what a client is told with what was applied.
func (w *world) end(r *running, v coalesce.Outcome, err error, sum *tally) {
	w.logf("op %x ends with outcome %d after %d calls", r.ID, v, r.Calls())
	c := r.client
	at, seen := r.At, r.Seen
	if k := r.Known(); v != coalesce.Applied && k != nil && k.LastWrite() == r.ID {
		w.failf("op %x: was applied, and ends with outcome %d", r.ID, v)
	}
	switch v {
	case coalesce.Applied:
		if r.applied == 0 {
			w.failf("op %x: told that it was applied, and it never was", r.ID)
		}
		if r.Kind != coalesce.Take {
			return
		}
		for _, ch := range r.Charges {
			if state := r.Known().State(ch.Name); ch.Amount > 0 {
				ch.Receipt = state.Receipt()
				c.leases = append(c.leases, ch)
				w.told = append(w.told, admission{at, ch.Amount})
			}
		}
		if w.rng.IntN(8) == 0 && !w.calm { // the other side of a cascade refused
			u := &running{BucketWrite: undoOf(r.BucketWrite, w.id()), client: c}
			w.takers[u.ID] = u
			w.logf("client %d: undoes %x by %s", c.name, r.ID, textOf(u.BucketWrite))
			sum.undone++
			w.step(u, sum)
		}
	case coalesce.Refused:
		sum.refused++
		if r.Calls() == 0 {
			w.failf("op %x: refused by what the client remembers", r.ID)
		}
		fits := true
		for i, ch := range r.Charges {
			_, ok := r.takes(r.Known().State(ch.Name).Redefine(ch.Definition, underAt(r.Known(), ch, at, seen), 0), i)
			fits = fits && ok
		}
		if fits {
			w.failf("op %x: refused, and what it knows says that it fits", r.ID)
		}
		k := &running{BucketWrite: definitionsOf(r.BucketWrite, w.id()), client: c}
		w.takers[k.ID] = k
		w.step(k, sum)
	case coalesce.Stale:
		sum.stale++
		if !slices.ContainsFunc(r.Charges, func(ch zael.Charge) bool { return r.Known().State(ch.Name).Stale(ch.Definition) }) {
			w.failf("op %x: called stale, and none is", r.ID)
		}
	case coalesce.Split:
		sum.apart++
		if r.parts == nil || r.applied > 0 {
			w.failf("op %x: to be done apart, after it was applied %d times to %d callers", r.ID, r.applied, len(r.parts))
		}
	case coalesce.Failed:
		switch {
		case !errors.Is(err, zael.ErrContention):
			if _, ok := errors.AsType[*zael.ValidationError](err); !ok {
				w.failf("op %x: failed with %v, want the amount that is out of range", r.ID, err)
			}
		case r.Calls() < protocol.MaxCalls:
			w.failf("op %x: contended after %d calls, want %d", r.ID, r.Calls(), protocol.MaxCalls)
		default:
			sum.contended++
		}
	default:
		w.failf("op %x: ends with outcome %d", r.ID, v)
	}
}

// undoOf returns the write that gives back a take that was applied.
func undoOf(take *protocol.BucketWrite, id uint64) *protocol.BucketWrite {
	u := &protocol.BucketWrite{
		Batch: coalesce.Batch{
			Key: take.Key, Kind: coalesce.Undo, Charges: coalesce.Back(take.Charges, take.Known(), nil), At: take.At,
			Birth: take.Known().Birth(), Events: -take.Events, Members: 1,
		},
		ID: id, Index: take.Index, Seen: take.Seen,
	}
	u.Know(take.Known())
	return u
}

// definitionsOf returns the write that stores definitions of a take that was refused.
func definitionsOf(take *protocol.BucketWrite, id uint64) *protocol.BucketWrite {
	d := &protocol.BucketWrite{
		Batch: coalesce.Batch{Key: take.Key, Kind: coalesce.StoreDefinitions, Charges: take.Charges, At: take.At, MaxWait: take.MaxWait},
		ID:    id, Index: take.Index, Seen: take.Seen,
	}
	d.Know(take.Known())
	return d
}

func rate(d bucket.Definition) bool { return d.Kind == bucket.Rate }

func underAt(r *protocol.Record, ch zael.Charge, at, seen bucket.Instant) bucket.Instant {
	if r.State(ch.Name).Absent() {
		return at
	}
	return seen
}

// compare checks that an applied write is what package bucket says.
func (w *world) compare(r *running, before, after *protocol.Record, item map[string]types.AttributeValue, forgot bool, sum *tally) {
	r.applied++
	sum.applied++
	if before != nil && before.LastWrite() == r.ID {
		w.failf("op %x: applied twice, and nobody wrote between", r.ID)
	}
	at, seen := r.At, r.Seen
	if before == nil || before.Birth() != after.Birth() {
		if before != nil {
			w.failf("op %x: birth changed from %x to %x", r.ID, before.Birth(), after.Birth())
		}
		w.forget()
	}
	want := map[string]bucket.State{}
	for _, name := range before.Names() {
		want[name] = before.State(name)
	}
	w.forgotten(r, before, after, want, sum)
	joins := after.Birth()
	if before != nil {
		joins = before.Begins()
	}
	padded := map[string]bool{}
	for i, ch := range r.Charges {
		state := want[ch.Name]
		if old := before.State(ch.Name); r.parts != nil && !forgot && !old.Absent() && after.State(ch.Name).Definition != old.Definition {
			w.failf("op %x: a batch of several changed %q from %+v", r.ID, ch.Name, old.Definition)
		}
		if state.Stale(ch.Definition) && r.Kind == coalesce.Take {
			w.failf("op %x: took under stale limits", r.ID)
		}
		switch {
		case r.Kind == coalesce.StoreDefinitions:
			next := state.Redefine(ch.Definition, seen, 0)
			if after.State(ch.Name) == state { // as another write came first, or it was not sooner
				continue
			}
			if state.Absent() || state.Stale(ch.Definition) {
				w.failf("op %x: %q brought under %+v from %+v", r.ID, ch.Name, ch.Definition, state)
			}
			state = next
			sum.kept++
		case r.Kind == coalesce.Take:
			state = state.Redefine(ch.Definition, underAt(before, ch, at, seen), joins)
			next, ok := r.takes(state, i)
			if !ok {
				w.failf("op %x: %q took %d of what does not fit: %+v", r.ID, ch.Name, ch.Amount, state)
			}
			if got := after.State(ch.Name); next.Definition.Plain() && ch.Amount > 0 && r.Calls() >= 2 && got.Mark > next.Mark {
				padded[ch.Name] = true // aimed higher: it must have fit from there
				if _, ok := r.takes(bucket.State{Definition: state.Definition, Mark: got.Mark - ch.Amount*state.Definition.Unit(), Generation: state.Generation}, i); !ok {
					w.failf("op %x: %q aimed beyond the burst: %+v", r.ID, ch.Name, got)
				}
				next.Mark = got.Mark
			}
			if ch.Amount == 0 && want[ch.Name].Absent() {
				continue
			}
			state = next
			w.counted[ch.Name] += ch.Amount
		case ch.Amount < 0:
			if forgot {
				continue
			}
			sum.gives++
			if state.Absent() {
				continue
			}
			if after.Owns(state, ch.Receipt) {
				w.counted[ch.Name] += ch.Amount
			}
			if ch.Definition.Flags&bucket.Unlimited == 0 {
				state = state.Give(seen, -ch.Amount, ch.Receipt)
			}
		default:
			gone := state.Absent()
			if !state.Stale(ch.Definition) && (ch.Amount > 0 || !gone) {
				state = state.Redefine(ch.Definition, underAt(before, ch, at, seen), joins)
			}
			next, err := state.Charge(at, ch.Amount)
			if ch.Amount > 0 && ch.Receipt.Generation != 0 && !rate(ch.Definition) {
				next, err = state.Settle(seen, ch.Amount, ch.Receipt)
				sum.settled++
			}
			if err != nil {
				w.failf("op %x: charged out of range: %w", r.ID, err)
			}
			state = next
			w.counted[ch.Name] += ch.Amount
		}
		if !state.Absent() {
			want[ch.Name] = state
		}
	}
	w.sameRecord(r, before, after, item, want, sum)
}

// forgotten checks the limits that a write has removed, and takes them out of what
// is wanted: by a take that does not name them, full for an hour. One that comes back
// is of another generation than it ever was.
func (w *world) forgotten(r *running, before, after *protocol.Record, want map[string]bucket.State, sum *tally) {
	at := r.At
	n := 0
	for _, name := range before.Names() {
		if !after.State(name).Absent() {
			continue
		}
		n++
		state := before.State(name)
		named := slices.ContainsFunc(r.Charges, func(ch zael.Charge) bool { return ch.Name == name })
		if r.Kind != coalesce.Take || named || !state.Full(at-bucket.Instant(time.Hour)) {
			w.failf("op %x: removed %q, named %v, of %+v", r.ID, name, named, state)
		}
		w.generations[name] = state.Generation - before.Birth()
		delete(want, name)
		delete(w.counted, name)
	}
	if n > 0 && after.Removals() != before.Removals()+1 {
		w.failf("op %x: removed %d limits, and there were %d removals before and %d after", r.ID, n, before.Removals(), after.Removals())
	}
	sum.forgotten += n
	for _, name := range after.Names() {
		highest, was := w.generations[name]
		if !was || !before.State(name).Absent() {
			continue
		}
		if generation := after.State(name).Generation - after.Birth(); generation <= highest {
			w.failf("op %x: %q is back in generation %d, and was on %d", r.ID, name, generation, highest)
		}
		sum.back++
	}
}

func (w *world) sameRecord(r *running, before, after *protocol.Record, item map[string]types.AttributeValue, want map[string]bucket.State, sum *tally) {
	at, seen := r.At, r.Seen
	names := slices.Sorted(maps.Keys(want))
	if !slices.Equal(names, after.Names()) {
		w.failf("op %x: limits %q afterwards, want %q", r.ID, after.Names(), names)
	}
	for _, name := range names {
		got := after.State(name)
		if got.Definition != before.State(name).Definition && !before.State(name).Absent() {
			sum.conversions++
		}
		same := got == want[name]
		if !same && got.Definition == want[name].Definition && got.Generation == want[name].Generation && got.Full(min(at, seen)) && want[name].Full(min(at, seen)) {
			same = true
		}
		if !same {
			w.failf("op %x: %q went from %+v to %+v, want %+v", r.ID, name, before.State(name), got, want[name])
		}
		from := bucket.Instant(0)
		if !rate(got.Definition) {
			if from = at; got.Full(at) {
				continue
			}
		}
		wait := got.WaitFull(from)
		if full := from.Add(wait); wait != bucket.Never && full < bucket.MaxInstant && full.Time().Unix()+3600 > after.Expiry() {
			w.failf("op %x: %q is full at %v, and the item expires at %v", r.ID, name, full.Time(), time.Unix(after.Expiry(), 0).UTC())
		}
	}
	for attribute := range item {
		prefix, name, ok := strings.Cut(attribute, "_")
		if ok && len(prefix) == 1 && !slices.Contains(names, name) {
			w.failf("op %x: attribute %q is there, and the limits are %q", r.ID, attribute, names)
		}
	}
	w.takes += r.Events
	for name, n := range w.counted {
		got := int64(0)
		if c, ok := item["c_"+name].(*types.AttributeValueMemberN); ok {
			got, _ = strconv.ParseInt(c.Value, 10, 64)
		}
		if got != n {
			w.failf("op %x: %q counted %d in all, want %d", r.ID, name, got, n)
		}
	}
	if e, ok := item["e"].(*types.AttributeValueMemberN); ok && e.Value != strconv.FormatInt(w.takes, 10) {
		w.failf("op %x: counted %s takes, want %d", r.ID, e.Value, w.takes)
	}
}

// summed is I1 where it is simple: between any two instants at most the burst
// and the refill between them, plus a unit.
func (w *world) summed() {
	if !w.calm || len(w.told) == 0 {
		return
	}
	d := w.current["rpm"]
	for _, d2 := range w.current {
		d = d2
	}
	slices.SortStableFunc(w.told, func(a, b admission) int { return int(min(max(a.at-b.at, -1), 1)) })
	for i := range w.told {
		taken := int64(0)
		for j := i; j < len(w.told); j++ {
			taken += w.told[j].amount * d.Unit()
			// Waits reserve up to 10 s ahead; clocks are 4 s apart and messages 3 s on their way.
			span := w.told[j].at + bucket.Instant(10*time.Second)
			if most := d.Burst*d.Unit() + d.Drip(span) - d.Drip(w.told[i].at-bucket.Instant(8*time.Second)) + 1; taken > most {
				w.failf("%d units admitted between %v and %v, want at most %d of %+v", taken, time.Duration(w.told[i].at), time.Duration(w.told[j].at), most, d)
			}
		}
	}
}

// notStuck: when everything has refilled a full burst is to be had, by any
// client, whatever it remembers.
func (w *world) notStuck() {
	w.now = bucket.MaxInstant / 2
	for _, c := range w.clients {
		r := w.record()
		for _, name := range r.Names() {
			s := r.State(name)
			d := s.Definition
			wait := s.Wait(w.now, d.Burst)
			if wait == bucket.Never || w.now+bucket.Instant(wait) > bucket.MaxInstant/16*15 {
				continue
			}
			w.now += bucket.Instant(wait)
			o := newWrite(coalesce.Take, []zael.Charge{{Name: name, Definition: d, Amount: d.Burst}}, w.now, w.id())
			o.Begin(observed(c.known, w.now))
			for calls := 0; ; calls++ {
				plan := o.Plan()
				if plan.Action == protocol.Read {
					o.Learn(w.record())
					continue
				}
				if plan.Action != protocol.Send || calls > 3 {
					w.failf("%q is stuck: a take of its burst when it is full ends with outcome %d (%v) after %d calls: %+v", name, plan.Outcome, plan.Err, calls, w.record().State(name))
				}
				before := w.record()
				out, err := w.table.UpdateItem(context.Background(), updateInput(&plan.Update))
				if err == nil {
					c.known = w.written(out.Attributes)
					break
				}
				_, ok := errors.AsType[*types.ConditionalCheckFailedException](err)
				if !ok {
					w.failf("%q: %w", name, err)
				}
				o.Answered(before, false)
			}
		}
	}
}
