package protocol

import (
	"math"

	"github.com/zeroae/zael/internal/saturate"
)

// These are the rows of the table in docs/dynamodb.md for quotas and sessions. Their state
// is a pair, the start from which is counted and the tokens used since, so a row is two
// pieces. A row that writes the start bounds it from above: else a stale guess would turn
// it back. A row that sets what is used has no room in its condition: it is for amounts
// up to the limit's alone.

// A periodRow is what an operation makes of a start and of what is used since.
type periodRow struct{ start, used piece }

// nextPeriodRow begins a period, where the one before began before since, with units used.
func nextPeriodRow(since, from, n int64) periodRow {
	return periodRow{
		start: piece{lo: math.MinInt64, hi: since - 1, set: true, n: from},
		used:  piece{lo: math.MinInt64, hi: math.MaxInt64, set: true, n: n},
	}
}

// samePeriodRow takes in the period that is on, where there is room.
func samePeriodRow(since, room, n int64) periodRow {
	return periodRow{start: piece{lo: since, hi: math.MaxInt64}, used: piece{lo: math.MinInt64, hi: room, n: n}}
}

// askRow takes 0 where there is no debt: it begins no period.
func askRow(amount int64) periodRow {
	return periodRow{start: identity(), used: piece{lo: math.MinInt64, hi: amount}}
}

// askOverRow takes 0 where the period is over.
func askOverRow(since int64) periodRow {
	return periodRow{start: piece{lo: math.MinInt64, hi: since - 1}, used: identity()}
}

// chargePeriodRow charges in the period that is on, whatever room there is.
func chargePeriodRow(since, n int64) periodRow { return samePeriodRow(since, math.MaxInt64-n, n) }

// carryRow begins a period with the debt that is left of an earlier one, whose start is
// exactly known, since that says how much of it the ends between have paid.
func carryRow(start, from, paid, room, n int64) periodRow {
	return periodRow{
		start: piece{lo: start, hi: start, set: true, n: from},
		used:  piece{lo: paid, hi: saturate.Add(room, paid), n: n - paid},
	}
}

// paidRow begins a period after one whose debt has been paid since.
func paidRow(start, from, paid, n int64) periodRow {
	r := exactStartRow(start, from)
	r.used = piece{lo: math.MinInt64, hi: paid, set: true, n: n}
	return r
}

// exactStartRow moves a start that is exactly known.
func exactStartRow(start, to int64) periodRow {
	return periodRow{start: exactRow(start, to), used: identity()}
}

// settlePeriodRow charges to the period of the receipt, or gives back -n.
func settlePeriodRow(receipt, n int64) periodRow {
	r := periodRow{start: piece{lo: receipt, hi: receipt}, used: piece{lo: math.MinInt64, hi: math.MaxInt64, n: n}}
	if n > 0 {
		r.used.hi -= n
	}
	return r
}

// exactPeriodRow makes one state of one state.
func exactPeriodRow(start, used, toStart, toUsed int64) periodRow {
	return periodRow{start: exactRow(start, toStart), used: exactRow(used, toUsed)}
}

// toQuotaRow makes a quota or session of a rate whose mark is exactly known, and
// idleToQuotaRow of one that has refilled.
func toQuotaRow(mark, start, used int64) periodRow {
	return periodRow{start: exactRow(mark, start), used: piece{lo: math.MinInt64, hi: math.MaxInt64, set: true, n: used}}
}

func idleToQuotaRow(drip, start int64) periodRow {
	return periodRow{start: emptyRow(drip, start), used: piece{lo: math.MinInt64, hi: math.MaxInt64, set: true}}
}

// overToRateRow makes a rate, which is full at drip, of a quota or session whose period is
// over.
func overToRateRow(since, drip int64) periodRow {
	return periodRow{start: piece{lo: math.MinInt64, hi: since - 1, set: true, n: drip}, used: identity()}
}

// keepStartRow keeps what is used under other periods, in which the start is as well: at
// starts from lo to hi.
func keepStartRow(lo, hi int64, used piece) periodRow {
	return periodRow{start: piece{lo: lo, hi: hi}, used: used}
}

// moveStartRow keeps what is used under other periods, which began later.
func moveStartRow(lo, hi, from int64, used piece) periodRow {
	return periodRow{start: piece{lo: lo, hi: hi, set: true, n: from}, used: used}
}

// someUsed is the piece on which some tokens are used, or some are on top of the amount.
func someUsed(topped bool) piece {
	if topped {
		return piece{lo: math.MinInt64, hi: -1}
	}
	return piece{lo: 1, hi: math.MaxInt64}
}

// overRow brings a period that is over under another definition.
func overRow(since int64, used piece) periodRow {
	used.set, used.n = true, 0
	return periodRow{start: piece{lo: math.MinInt64, hi: since - 1}, used: used}
}

// overToSessionRow is overRow to a session, which then has not begun.
func overToSessionRow(since, never int64, used piece) periodRow {
	r := overRow(since, used)
	r.start.set, r.start.n = true, never
	return r
}
