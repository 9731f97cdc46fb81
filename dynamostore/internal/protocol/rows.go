package protocol

import "math"

// These are the rows of the table in docs/dynamodb.md, for rates: each is the condition on a
// mark and the update of it, for one operation of package bucket on one stretch of marks. A
// mark at the drip or below is that of a limit that has refilled.

// idleRow takes or charges from a limit that has refilled.
func idleRow(drip, units int64) piece {
	return piece{lo: math.MinInt64, hi: drip, set: true, n: drip + units}
}

// busyRow takes, where there is room.
func busyRow(drip, room, units int64) piece { return piece{lo: drip, hi: room, n: units} }

// nothingRow takes 0, where there is no debt.
func nothingRow(room int64) piece { return piece{lo: math.MinInt64, hi: room} }

// chargeRow charges, whatever room there is.
func chargeRow(drip, units int64) piece {
	return piece{lo: drip, hi: math.MaxInt64 - units, n: units}
}

// giveRow gives back.
func giveRow(drip, units int64) piece {
	return piece{lo: drip + units, hi: math.MaxInt64, n: -units}
}

// giveDownRow gives back down to the drip, where less is owed than is given.
func giveDownRow(drip, units int64) piece {
	return piece{lo: drip + 1, hi: drip + units, set: true, n: drip}
}

// refilledRow gives nothing back: the limit has refilled.
func refilledRow(drip int64) piece { return piece{lo: math.MinInt64, hi: drip} }

// placeRow gives back the last place in line, whose receipt is the mark.
func placeRow(receipt, units, drip int64) piece {
	return exactRow(receipt, max(drip, receipt-units))
}

// beforeRow and behindRow give back nothing of a place in line: there is none, or another one
// is behind it.
func beforeRow(receipt int64) piece { return piece{lo: math.MinInt64, hi: receipt - 1} }
func behindRow(receipt int64) piece { return piece{lo: receipt + 1, hi: math.MaxInt64} }

// exactRow makes one mark of one mark: of a level that is multiplied, or at its end.
func exactRow(mark, to int64) piece { return piece{lo: mark, hi: mark, set: true, n: to} }

// emptyRow keeps a limit full under another definition, whose drip is drip2.
func emptyRow(drip, drip2 int64) piece {
	return piece{lo: math.MinInt64, hi: drip, set: true, n: drip2}
}

// shiftRow keeps the level under another definition, at marks from lo on that stay within
// int64.
func shiftRow(lo, by int64) piece {
	hi := int64(math.MaxInt64)
	if by > 0 {
		hi -= by + 1
	}
	return piece{lo: lo, hi: hi, n: by}
}

// belowCapRow keeps a level up to cut, where higher ones are capped.
func belowCapRow(drip, cut, by int64) piece { return piece{lo: drip, hi: cut, n: by} }

// capRow brings a level between two bursts down to the lower one, under another definition.
func capRow(cut, top, to int64) piece { return piece{lo: cut, hi: top, set: true, n: to} }
