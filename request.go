package zael

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Amounts are tokens by limit name.
type Amounts map[string]int64

// String is the text of a, in order of name: "rpm=1 tpm=500".
func (a Amounts) String() string {
	var b strings.Builder
	for i, name := range slices.Sorted(maps.Keys(a)) {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(name)
		b.WriteByte('=')
		b.WriteString(strconv.FormatInt(a[name], 10))
	}
	return b.String()
}

// A FailureMode decides what happens when the store cannot answer.
type FailureMode uint8

// The failure modes. The zero value is Config.FailureMode in a Request, and
// FailClosed in a Config.
const (
	failureInherit FailureMode = iota
	FailClosed                 // the call fails with an *UnavailableError
	FailOpen                   // the caller is admitted, uncharged; Lease.Degraded tells
)

// String is "closed" or "open".
func (m FailureMode) String() string {
	switch m {
	case FailClosed:
		return "closed"
	case FailOpen:
		return "open"
	}
	return "inherit"
}

// A Request asks for tokens.
type Request struct {
	Entity   string // who: 1 to 256 characters of [A-Za-z0-9_.:@-], not beginning with punctuation
	Resource string // what: 1 to 64 characters of [A-Za-z0-9_./-], beginning with a letter

	// Limits bind the entity. With UseStoredLimits they are the last resort,
	// after (entity, resource), (entity), (resource) and the system's.
	Limits []Limit
	// ParentLimits bind the parent likewise; nil means Limits.
	ParentLimits []Limit

	// Consume is what to take, by limit name: 0 to 10¹⁵ tokens. A limit that
	// it does not name, or names with 0, takes nothing and refuses only while
	// in debt. It must name only limits of the call; names unknown among stored limits are ignored
	// and counted in Stats.UnknownNames.
	Consume Amounts

	// Cascade takes from the entity's parent too, all or nothing. Limits that
	// the parent does not have are not checked there. Without a parent it has
	// no effect.
	Cascade bool
	// UseStoredLimits asks the store for the limits; then the entity's own
	// Cascade flag counts too.
	UseStoredLimits bool

	// MaxWait lets the request reserve tokens that will have refilled by then,
	// first come, first served; at most until the context's deadline. 0 does
	// not wait, and is refused while others wait.
	MaxWait time.Duration

	FailureMode FailureMode // zero: Config.FailureMode
}

// A Query asks about a bucket. Its fields are as in Request.
type Query struct {
	Entity, Resource         string
	Limits, ParentLimits     []Limit
	Cascade, UseStoredLimits bool
}

// A Scope is where stored limits apply. The zero Scope is the system's
// default; Resource alone a resource's; Entity alone the entity's default for
// resources that it has no limits of its own for; both that entity's for that
// resource.
type Scope struct {
	Entity, Resource string
}

// String names the scope as messages do.
func (s Scope) String() string {
	switch {
	case s.Entity == "" && s.Resource == "":
		return "system"
	case s.Entity == "":
		return "resource " + s.Resource
	case s.Resource == "":
		return "entity " + s.Entity
	}
	return "entity " + s.Entity + " resource " + s.Resource
}

// DefaultResource names an entity's default in the place of a resource:
// SetLimits with Scope{Entity: "e", Resource: DefaultResource} is the same as
// without a resource.
const DefaultResource = "_default_"
