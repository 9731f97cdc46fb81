package protocol

import (
	"math"

	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/saturate"
)

// thenPeriod follows the guess through one more row of a quota or session.
func (g *guess) thenPeriod(row periodRow) {
	g.mark.then(row.start)
	g.state.Mark = row.start.of(g.state.Mark)
	g.used.then(row.used)
	g.state.Used = row.used.of(g.state.Used)
	if g.used.empty() { // which is no condition where the limit was a rate
		g.mark.nowhere()
	}
}

// takeKind is bucket.State.Take of what is no plain rate; room is that of a rate.
func (g *guess) takeKind(at bucket.Instant, n, room int64) (fits bool) {
	switch d := &g.state.Definition; {
	case d.Flags&bucket.Unlimited != 0:
		return true
	case d.Flags&bucket.Block != 0:
		if n > 0 {
			g.mark.nowhere()
		}
		return n == 0
	case d.Flags&bucket.Soft != 0:
		fits = g.charge(at, n) == nil
		if !fits {
			g.mark.nowhere()
		}
		return fits
	case d.Kind == bucket.Rate:
		return g.take(at, n, room, 0)
	default:
		return g.takePeriod(at, n)
	}
}

// periodic reports whether a limit has a start and what is used since.
func periodic(d *bucket.Definition) bool { return d.Kind == bucket.Quota || d.Kind == bucket.Session }

func (g *guess) takePeriod(at bucket.Instant, n int64) (fits bool) {
	amount := g.state.Definition.Burst
	since, from := g.state.Definition.Turn(at)
	switch {
	case n == 0 && (g.state.Mark >= int64(since) || g.state.Used <= amount):
		fits = g.state.Used <= amount
		g.thenPeriod(askRow(amount))
		return fits
	case g.state.Mark >= int64(since):
		fits = g.state.Used <= amount-n
		g.thenPeriod(samePeriodRow(int64(since), amount-n, n))
		return fits
	case n > amount: // the rows below set what is used
		g.mark.nowhere()
		return false
	case g.state.Definition.Flags&bucket.CarryDebt != 0:
		return g.takeCarried(since, from, n, amount-n)
	case n == 0:
		g.thenPeriod(askOverRow(int64(since)))
	default:
		g.thenPeriod(nextPeriodRow(int64(since), int64(from), n))
	}
	return true
}

// takeCarried begins a period after one that may leave debt.
func (g *guess) takeCarried(since, from bucket.Instant, n, room int64) (fits bool) {
	if g.state.Used <= g.state.Definition.Burst {
		row := nextPeriodRow(int64(since), int64(from), n)
		row.used.hi = g.state.Definition.Burst
		g.thenPeriod(row)
		return true
	}
	paid, start := g.paid(since), g.state.Mark
	switch {
	case n == 0:
		fits = g.state.Used <= saturate.Add(room, paid)
		row := exactStartRow(start, start)
		row.start.set, row.start.n = false, 0
		row.used.hi = saturate.Add(room, paid)
		g.thenPeriod(row)
	case g.state.Used <= paid:
		fits = true
		g.thenPeriod(paidRow(start, int64(from), paid, n))
	default:
		fits = g.state.Used-paid <= room
		g.thenPeriod(carryRow(start, int64(from), paid, room, n))
	}
	return fits
}

// paid returns how much debt the starts of periods up to since have paid.
func (g *guess) paid(since bucket.Instant) int64 {
	starts := g.state.Definition.Calendar.Starts(bucket.Instant(g.state.Mark), since)
	if starts > math.MaxInt64/g.state.Definition.Burst {
		return math.MaxInt64
	}
	return starts * g.state.Definition.Burst
}

// chargePeriod is bucket.State.Charge of a quota or session.
func (g *guess) chargePeriod(at bucket.Instant, n int64) {
	since, from := g.state.Definition.Turn(at)
	switch {
	case n == 0:
	case g.state.Mark >= int64(since):
		g.thenPeriod(chargePeriodRow(int64(since), n))
	case g.state.Definition.Flags&bucket.CarryDebt != 0:
		g.takeCarried(since, from, n, math.MaxInt64-n)
	default:
		g.thenPeriod(nextPeriodRow(int64(since), int64(from), n))
	}
}

// settlePeriod is bucket.State.Settle, for a receipt of the guess's generation, and of -n
// bucket.State.Give. A start never falls: what is known to be over, or to have been followed
// by another period, is charged and given nothing.
func (g *guess) settlePeriod(at bucket.Instant, n, receipt int64) {
	since, _ := g.state.Definition.Turn(max(at, bucket.Instant(receipt)))
	if receipt < int64(since) || g.state.Mark > receipt {
		return
	}
	g.thenPeriod(settlePeriodRow(receipt, n))
	g.state.Mark = receipt
}

// redefinePeriod is bucket.State.Redefine to next, where the limit was or becomes a quota or
// session, and its axis changes.
func (g *guess) redefinePeriod(next bucket.State, at bucket.Instant) {
	old := &g.state.Definition
	switch {
	case !periodic(old) && g.state.Mark <= old.Floor(at):
		g.thenPeriod(idleToQuotaRow(old.Floor(at), next.Mark))
	case !periodic(old):
		g.thenPeriod(toQuotaRow(g.state.Mark, next.Mark, next.Used))
	case g.state.Mark > int64(at) || old.Rev > 0 && next.Definition.Rev > old.Rev:
		g.exactly(next) // to a clock that is behind, or what is used may be capped
	case periodic(&next.Definition):
		g.otherPeriods(next, at)
	default:
		since, _ := old.Turn(at)
		if g.state.Mark >= int64(since) || old.Flags&bucket.CarryDebt != 0 {
			g.exactly(next)
		} else {
			g.thenPeriod(overToRateRow(int64(since), next.Mark))
		}
	}
	g.state.Definition = next.Definition
}

// turn follows a change of what carries debt, or of whether it does: what has ended by the old
// definition has ended.
func (g *guess) turn(next bucket.State, at bucket.Instant) {
	old := &g.state.Definition
	since, _ := old.Turn(max(at, bucket.Instant(g.state.Mark)))
	used := identity() // that of which nothing is left
	if old.Flags&bucket.CarryDebt != 0 {
		used.hi = old.Burst
	}
	switch {
	case g.state.Mark >= int64(since):
		g.thenPeriod(keepStartRow(int64(since), math.MaxInt64, identity()))
	case g.state.Used > used.hi:
		g.exactly(next)
	default:
		g.thenPeriod(overRow(int64(since), used))
	}
}

// exactly is for the guessed state alone.
func (g *guess) exactly(next bucket.State) {
	g.thenPeriod(exactPeriodRow(g.state.Mark, g.state.Used, next.Mark, next.Used))
}

// otherPeriods changes the periods of a quota or session.
func (g *guess) otherPeriods(next bucket.State, at bucket.Instant) {
	since, _ := g.state.Definition.Turn(at)
	since2, from2 := next.Definition.Turn(at)
	carries, session := g.state.Definition.Flags&bucket.CarryDebt != 0, next.Definition.Kind == bucket.Session
	over := g.state.Mark < int64(since)
	used := identity() // that of which nothing is left
	if carries {
		used.hi = g.state.Definition.Burst
	}
	switch {
	case over && carries && g.state.Used > g.state.Definition.Burst, !over && g.state.Used == 0:
		g.exactly(next)
	case over && session:
		g.thenPeriod(overToSessionRow(int64(since), next.Mark, used))
	case over:
		g.thenPeriod(overRow(int64(since), used))
	case g.state.Mark < int64(since2):
		g.thenPeriod(moveStartRow(int64(since), int64(since2)-1, int64(from2), someUsed(g.state.Used < 0)))
	case session: // one of which nothing is used has not begun
		g.thenPeriod(keepStartRow(int64(max(since, since2)), int64(at), someUsed(g.state.Used < 0)))
	default:
		g.thenPeriod(keepStartRow(int64(max(since, since2)), int64(at), identity()))
	}
}
