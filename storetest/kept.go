package storetest

import (
	"slices"
	"time"

	"github.com/zeroae/zael/bucket"
)

// A keptLimit is a limit in a second formulation, by the words of docs/semantics.md: a rate
// is a balance that somebody looks at all the time, a quota or session what was used since
// it began. It shares no arithmetic with package bucket.
//
// A rate is counted in thousandths of a token, and must be asked only at instants at which
// a whole number of them has refilled.
type keptLimit struct {
	def  bucket.Definition
	axis int // grows when earlier charges can no longer be given back
	asOf time.Time

	balance int64 // of a rate: what is there, less than 0 in debt

	begun time.Time // of a quota or session: from when is counted; zero if no session is on
	last  time.Time // the same when something was charged last, though that period may be over
	used  int64     // since begun; less than 0 after a top-up

	forgot bool // nothing was used before the last change: a store may have forgotten the revision
	vague  bool // or from when was counted, which a session takes over that it becomes

	// anew is, of a session that a vague quota became, when it began if the quota was forgotten
	// when it was full.
	anew time.Time
}

const lifts = bucket.Block | bucket.Unlimited

func (k *keptLimit) periodic() bool {
	return k.def.Kind == bucket.Quota || k.def.Kind == bucket.Session
}

// newKept is a limit that was never charged.
func newKept(h *horizon, d bucket.Definition, at time.Time) keptLimit {
	k := keptLimit{def: d, asOf: at}
	switch d.Kind {
	case bucket.Rate:
		k.balance = k.most(h, at)
	case bucket.Quota:
		k.begun, _ = h.period(d.Calendar, at)
		k.last = k.begun
	}
	return k
}

// most is what is there of a rate that nobody has used.
func (k *keptLimit) most(h *horizon, at time.Time) int64 {
	pieces := h.pieces(&k.def)
	full := keptLimit{def: k.def, asOf: h.from, balance: pieces[0].burst}
	full.pass(h, at)
	return full.balance
}

// period is the period of a calendar that an instant is in.
func (h *horizon) period(c *bucket.Calendar, at time.Time) (start, end time.Time) {
	starts := h.starts(c)
	i, _ := slices.BinarySearchFunc(starts, at, func(s, at time.Time) int {
		if s.After(at) {
			return 1
		}
		return -1
	})
	if start, end = h.from, h.to; i > 0 {
		start = starts[i-1]
	}
	if i < len(starts) {
		end = starts[i]
	}
	return start, end
}

// at is the limit as it stands at an instant that is not before the last change.
func (k *keptLimit) at(h *horizon, t time.Time) keptLimit {
	then := *k
	then.pass(h, t)
	return then
}

// pass brings the limit to an instant.
func (k *keptLimit) pass(h *horizon, t time.Time) {
	switch k.def.Kind {
	case bucket.Rate:
		pieces := h.pieces(&k.def)
		for i := range pieces {
			p, end := &pieces[i], t
			if i+1 < len(pieces) {
				if !pieces[i+1].start.After(k.asOf) {
					continue
				}
				if pieces[i+1].start.Before(t) {
					end = pieces[i+1].start
				}
			}
			if p.start.After(t) {
				break
			}
			begin := k.asOf
			if p.start.After(begin) {
				begin = p.start
			}
			k.balance = min(k.balance, p.burst)
			k.balance = min(k.balance+p.refilled(end.Sub(begin)), p.burst)
		}
	case bucket.Session:
		if !k.begun.IsZero() && !t.Before(k.begun.Add(k.def.Period)) {
			k.begun, k.used = time.Time{}, 0
		}
	default:
		for _, end := h.period(k.def.Calendar, k.begun); !end.After(t) && end.Before(h.to); _, end = h.period(k.def.Calendar, end) {
			k.begun = end
			if k.def.Flags&bucket.CarryDebt == 0 {
				k.used = 0
			}
			k.used = max(0, k.used-k.def.Burst)
		}
	}
	k.asOf = t
}

// older is a rate as a clock sees it that is behind: what has refilled since is not there.
func (k *keptLimit) older(h *horizon, t time.Time) keptLimit {
	then := *k
	if k.def.Kind != bucket.Rate {
		return then
	}
	pieces := h.pieces(&k.def)
	for i := range pieces {
		begin, end := pieces[i].start, k.asOf
		if begin.Before(t) {
			begin = t
		}
		if i+1 < len(pieces) && pieces[i+1].start.Before(end) {
			end = pieces[i+1].start
		}
		if begin.Before(end) {
			then.balance -= pieces[i].refilled(end.Sub(begin))
		}
	}
	return then
}

// seen is the limit as a clock sees it, which may be behind.
func (k *keptLimit) seen(h *horizon, t time.Time) keptLimit {
	if t.Before(k.asOf) {
		return k.older(h, t)
	}
	return k.at(h, t)
}

// available is as State.Available says, of a limit as it stands now.
func (k *keptLimit) available() int64 {
	switch {
	case k.def.Flags&bucket.Block != 0:
		return 0
	case k.def.Flags&bucket.Unlimited != 0:
		return bucket.MaxAmount
	case k.periodic():
		return k.def.Burst - k.used
	}
	return floorOf(k.balance, 1000)
}

// full reports whether nothing is used of the limit as it stands now.
func (k *keptLimit) full(h *horizon) bool {
	if k.periodic() {
		return k.used == 0
	}
	return k.balance >= k.most(h, k.asOf)
}

// fits reports whether n can be taken at an instant, of a rate by then.
func (k *keptLimit) fits(h *horizon, at, then time.Time, n int64) bool {
	switch {
	case k.def.Flags&bucket.Block != 0:
		return n == 0
	case k.def.Flags&(bucket.Unlimited|bucket.Soft) != 0:
		return true
	case k.periodic():
		now := k.seen(h, at)
		return now.used+n <= k.def.Burst
	}
	now := k.seen(h, then)
	return now.balance >= n*1000
}

// charge takes n at an instant, whatever is there.
func (k *keptLimit) charge(h *horizon, at time.Time, n int64) {
	if n == 0 || k.def.Flags&bucket.Unlimited != 0 {
		return
	}
	if !at.Before(k.asOf) {
		*k = k.at(h, at)
	}
	if !k.periodic() {
		k.balance -= n * 1000
		return
	}
	k.use(at, n)
}

// use adds to what is used.
func (k *keptLimit) use(at time.Time, n int64) {
	if k.used += n; k.begun.IsZero() {
		k.begun, k.vague = at, false
	}
	k.last = k.begun
}

// wait is the time from now until n fit, or Never; beyond the horizon it is what is left of that.
func (k *keptLimit) wait(h *horizon, now time.Time, n int64) time.Duration {
	switch {
	case k.fits(h, now, now, n):
		return 0
	case k.def.Flags&bucket.Block != 0 || n > k.mostEver():
		return bucket.Never
	}
	for k := k.at(h, now); k.asOf.Before(h.to); {
		if k.periodic() {
			end := k.begun.Add(k.def.Period)
			if k.def.Kind == bucket.Quota {
				_, end = h.period(k.def.Calendar, k.asOf)
			}
			if k = k.at(h, end); k.used+n <= k.def.Burst {
				return end.Sub(now)
			}
			continue
		}
		p, end := h.pieceAt(&k.def, k.asOf)
		if p.burst >= n*1000 {
			if d := p.needs(n*1000 - k.balance); k.asOf.Add(d).Before(end) {
				return k.asOf.Add(d).Sub(now)
			}
		}
		if k = k.at(h, end); k.balance >= n*1000 {
			return end.Sub(now)
		}
	}
	return h.to.Sub(now)
}

// mostEver is the greatest amount that is there at any time.
func (k *keptLimit) mostEver() int64 {
	most := k.def.Burst
	if k.def.Schedule != nil {
		base := piece{burst: k.def.Burst * 1000, amount: 1, period: 1}
		for _, w := range k.def.Schedule.Windows() {
			p := partOf(base, w)
			most = max(most, p.burst/1000)
		}
	}
	return most
}

// pieceAt is the piece of a rate that an instant is in, and its end.
func (h *horizon) pieceAt(d *bucket.Definition, at time.Time) (piece, time.Time) {
	pieces := h.pieces(d)
	for i := range pieces {
		if i+1 == len(pieces) {
			return pieces[i], h.to
		}
		if pieces[i+1].start.After(at) {
			return pieces[i], pieces[i+1].start
		}
	}
	panic("a rate without pieces")
}

// redefine brings the limit under another definition: what was taken stays taken.
func (k *keptLimit) redefine(h *horizon, d bucket.Definition, at time.Time) {
	old := k.at(h, at)
	if d.Rev == 0 {
		d.Rev = k.def.Rev
	}
	if d.Flags&lifts != 0 { // the limit beneath stays as it is
		k.def.Flags, k.def.Rev = k.def.Flags&bucket.CarryDebt|d.Flags&lifts, d.Rev
		return
	}
	if k.sameAxis(d) {
		if k.def.Burst != d.Burst || k.def.Flags&bucket.CarryDebt != d.Flags&bucket.CarryDebt {
			*k = old // what had ended has ended
		}
		k.def = d
		return
	}
	level := max(0, old.used) * 1000
	if !old.periodic() {
		level = old.most(h, at) - old.balance
	}
	next := newKept(h, d, at)
	next.forgot, next.vague = k.forgot, k.vague
	if next.axis = k.axis + 1; next.periodic() {
		level = -floorOf(-level, 1000) * 1000 // up to whole tokens
	}
	if k.def.Rev > 0 && d.Rev > k.def.Rev && (d.Burst != k.def.Burst || old.periodic() || next.periodic()) {
		debt := max(0, level-1000*max(k.def.Burst, d.Burst))
		level = min(level, d.Burst*1000) + debt
	}
	if !next.periodic() {
		next.balance -= level
		*k = next
		return
	}
	if next.used = level / 1000; old.used < 0 {
		next.used = old.used
	}
	if old.periodic() {
		next.goOn(&old, at)
		if next.vague && old.def.Kind == bucket.Quota && d.Kind == bucket.Session {
			if next.anew, _ = h.period(old.def.Calendar, at); next.anew.Before(at.Add(1 - d.Period)) {
				next.anew = at
			}
		}
	} else if next.used != 0 {
		next.use(at, 0)
	}
	*k = next
}

// goOn has a quota or session count from where it did before, if that is in the period
// that is on by the new definition. A session begins with a use.
func (k *keptLimit) goOn(old *keptLimit, at time.Time) {
	from, start := old.last, at.Add(1-k.def.Period)
	if old.used != 0 {
		from = old.begun
	}
	if k.def.Kind == bucket.Quota {
		start = k.begun
	}
	switch {
	case k.used == 0 && k.def.Kind == bucket.Session:
		return
	case !from.Before(start):
		k.begun, k.last = from, from
	case k.used == 0:
		k.last = from
	default:
		k.use(at, 0)
	}
}

func (k *keptLimit) sameAxis(d bucket.Definition) bool {
	switch k.def.Kind {
	case d.Kind:
	default:
		return false
	}
	switch d.Kind {
	case bucket.Quota:
		return k.def.Calendar == d.Calendar
	case bucket.Session:
		return k.def.Period == d.Period
	}
	return k.def.Burst == d.Burst && k.def.Amount == d.Amount && k.def.Period == d.Period && k.def.Schedule == d.Schedule
}

// topUp gives n tokens.
func (k *keptLimit) topUp(h *horizon, at time.Time, n int64) {
	*k = k.at(h, at)
	if !k.periodic() {
		k.balance = min(k.balance+n*1000, max(k.balance, k.most(h, at)))
		return
	}
	k.use(at, -n)
}

// reset makes the limit full.
func (k *keptLimit) reset(h *horizon, at time.Time) {
	axis := k.axis + 1
	*k = newKept(h, k.def, at)
	k.axis = axis
}

// A keptReceipt is what a charge owns: of a rate, what has not refilled since; otherwise
// its period. lone is the limit as it would be if nobody had used it since.
type keptReceipt struct {
	lone  keptLimit
	empty bool // nothing was charged
}

func (k *keptLimit) receipt() keptReceipt {
	return keptReceipt{lone: *k, empty: k.def.Flags&bucket.Unlimited != 0}
}

// onSame reports whether a receipt is of a time that the limit still knows.
func (k *keptLimit) onSame(r keptReceipt) bool {
	return !r.empty && r.lone.axis == k.axis && r.lone.def.Kind == k.def.Kind
}

// give gives n tokens of a charge back.
func (k *keptLimit) give(h *horizon, at time.Time, n int64, r keptReceipt) {
	if !k.onSame(r) || k.def.Flags&bucket.Unlimited != 0 {
		return
	}
	if *k = k.at(h, at); k.periodic() {
		if r.lone.begun.Equal(k.begun) {
			k.used -= n
		}
		return
	}
	lone := r.lone.at(h, at)
	most := k.most(h, at)
	if owned := most - lone.balance; owned > 0 && (owned <= most || lone.balance == k.balance) {
		k.balance = min(most, k.balance+min(n*1000, owned))
	}
}

// settle charges n more to the period of a charge, if that is on.
func (k *keptLimit) settle(h *horizon, at time.Time, n int64, r keptReceipt) {
	if now := k.at(h, at); k.periodic() && k.onSame(r) && r.lone.begun.Equal(now.begun) {
		k.charge(h, at, n)
	}
}

func floorOf(n, by int64) int64 {
	q := n / by
	if n%by < 0 {
		q--
	}
	return q
}
