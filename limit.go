package zael

import (
	"cmp"
	"strings"
	"time"

	"github.com/zeroae/zael/bucket"
)

// A Limit is what a name may use: a rate, or another [Kind] made by [Each], [FromFirstUse],
// [AtOnce], [Block] or [Unlimited]. Of a rate, RefillAmount tokens refill in each
// RefillPeriod, spread evenly over it, until there are Burst. A Limit is a plain value,
// compared with ==; methods that take one check it.
type Limit struct {
	Name         string        // 1 to 64 characters of A-Z a-z 0-9 _ . / -, beginning with a letter
	Capacity     int64         // nominal tokens, for reports only: 1 to Burst; 0 means the lesser of RefillAmount and Burst, of other kinds Burst
	Burst        int64         // tokens in a full bucket: 1 to 10¹⁵; of a rate, 0 means RefillAmount, and less than RefillAmount smooths. The amount of a quota, or the number of slots
	RefillAmount int64         // of a rate: tokens, 1 to 10¹⁵, and at most 9·10⁹ a second
	RefillPeriod time.Duration // of a rate: 1 s to 366 days

	terms terms
}

// PerSecond returns a limit of n tokens a second with a burst of n.
func PerSecond(name string, n int64) Limit { return perPeriod(name, n, time.Second) }

// PerMinute returns a limit of n tokens a minute with a burst of n.
func PerMinute(name string, n int64) Limit { return perPeriod(name, n, time.Minute) }

// PerHour returns a limit of n tokens an hour with a burst of n.
func PerHour(name string, n int64) Limit { return perPeriod(name, n, time.Hour) }

// PerDay returns a limit of n tokens in 24 hours with a burst of n.
func PerDay(name string, n int64) Limit { return perPeriod(name, n, 24*time.Hour) }

func perPeriod(name string, n int64, period time.Duration) Limit {
	return Limit{Name: name, Capacity: n, Burst: n, RefillAmount: n, RefillPeriod: period}
}

// WithBurst returns the limit with another burst and the same rate. Capacity is lowered
// to the burst if it is greater.
func (l Limit) WithBurst(burst int64) Limit {
	l.Burst = burst
	l.Capacity = min(l.Capacity, burst)
	return l
}

// Validate returns a [*ValidationError] if a field of the limit is out of range.
func (l Limit) Validate() error {
	_, err := definitionOf(&l)
	return err
}

// Definition returns the limit in numbers, as package bucket computes with them. The error
// is that of Validate.
func (l Limit) Definition() (bucket.Definition, error) { return definitionOf(&l) }

// withDefaults returns the limit with its zero fields filled in.
func (l Limit) withDefaults() Limit {
	if l.terms.kind != KindRate {
		l.Capacity = cmp.Or(l.Capacity, l.Burst)
		return l
	}
	l.Burst = cmp.Or(l.Burst, l.RefillAmount)
	l.Capacity = cmp.Or(l.Capacity, min(l.RefillAmount, l.Burst))
	return l
}

// definitionOf returns the limit's numbers, checked, without a revision.
func definitionOf(l *Limit) (bucket.Definition, error) {
	d := bucket.Definition{
		Burst: l.Burst, Amount: l.RefillAmount, Period: l.RefillPeriod, Capacity: l.Capacity,
	}
	if !validName(l.Name) {
		return d, invalid("Limit.Name", l.Name, nameRule)
	}
	if l.terms != (terms{}) {
		return l.terms.definition(l)
	}
	if d.Burst == 0 { // if the amount is out of range, the error is to be about the amount
		d.Burst = min(max(d.Amount, 1), bucket.MaxAmount)
	}
	if d.Capacity == 0 {
		d.Capacity = min(d.Amount, d.Burst)
	}
	return d, l.checked(d)
}

// checked returns an error if d, made of l, is out of range.
func (l Limit) checked(d bucket.Definition) error {
	if err := d.Validate(); err != nil {
		return invalid("Limit "+l.Name, l.text(), trimRange(err))
	}
	return nil
}

// trimRange returns the reason in an error of package bucket.
func trimRange(err error) string {
	return strings.TrimSuffix(err.Error(), ": "+bucket.ErrRange.Error())
}

// limitOf returns the limit of a definition.
func limitOf(name string, d bucket.Definition) Limit {
	l := Limit{Name: name, Capacity: d.Capacity, Burst: d.Burst, RefillAmount: d.Amount, RefillPeriod: d.Period}
	if !d.Plain() {
		setTerms(&l, &d)
	}
	return l
}
