// Package rowusage has the usage of an hour that a bucket's row keeps beside its limits.
package rowusage

import (
	"slices"

	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/saturate"
)

// A Limit is the usage of one limit.
type Limit struct {
	Tokens    int64 // net of what was given back
	Counted   bool  // false if no tokens were counted
	Overdrawn int64 // acquires that left it overdrawn
}

// Limits is the usage of a row's limits, by index; it may be shorter than these.
type Limits []Limit

// At returns the usage of the limit with an index.
func (u *Limits) At(i int) Limit {
	if i < len(*u) {
		return (*u)[i]
	}
	return Limit{}
}

// Count adds tokens to the usage of a limit. It reports whether the row has the limit.
func (u *Limits) Count(of []bucket.LimitState, name string, tokens int64) bool {
	l := u.find(of, name)
	if l == nil {
		return false
	}
	l.Tokens, l.Counted = saturate.Add(l.Tokens, tokens), true
	return true
}

// Overdraw adds acquires to those that left a limit overdrawn. It reports whether the row has the
// limit.
func (u *Limits) Overdraw(of []bucket.LimitState, name string, acquires int64) bool {
	l := u.find(of, name)
	if l == nil {
		return false
	}
	l.Overdrawn = saturate.Add(l.Overdrawn, acquires)
	return true
}

// find returns the usage of a limit, nil if the row does not have it.
func (u *Limits) find(of []bucket.LimitState, name string) *Limit {
	i := slices.IndexFunc(of, func(l bucket.LimitState) bool { return l.Name == name })
	if i < 0 {
		return nil
	}
	for len(*u) <= i {
		*u = append(*u, Limit{})
	}
	return &(*u)[i]
}
