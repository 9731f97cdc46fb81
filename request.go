package zael

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zeroae/zael/bucket"
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

// check finds what is wrong with a request whatever is stored.
func (req *Request) check() error {
	if err := checkEntity("Request.Entity", req.Entity); err != nil {
		return err
	}
	if err := checkResource("Request.Resource", req.Resource); err != nil {
		return err
	}
	if req.MaxWait < 0 {
		return invalid("Request.MaxWait", req.MaxWait, "is negative: use 0 not to wait")
	}
	if req.FailureMode > FailOpen {
		return invalid("Request.FailureMode", uint8(req.FailureMode), "is neither FailClosed nor FailOpen: use one of them, or 0 for the Limiter's")
	}
	if err := checkLimits("Request.Limits", req.Limits); err != nil {
		return err
	}
	if err := checkLimits("Request.ParentLimits", req.ParentLimits); err != nil {
		return err
	}
	for name, amount := range req.Consume {
		if err := checkAmount("Request.Consume", name, amount, 0); err != nil {
			return err
		}
		known := req.UseStoredLimits || hasLimit(req.Limits, name) || req.Cascade && hasLimit(req.ParentLimits, name)
		if !known && len(req.Limits) > 0 {
			return invalid("Request.Consume", name, "is not the name of a limit of the call")
		}
	}
	if len(req.Limits) == 0 && !req.UseStoredLimits {
		return noLimits(req.Entity, req.Resource)
	}
	return nil
}

func hasLimit(limits []Limit, name string) bool {
	return slices.ContainsFunc(limits, func(l Limit) bool { return l.Name == name })
}

// maxLimits is how many limits a bucket may have in one call.
const maxLimits = 100

// checkLimits validates limits that are not, or not yet, charged.
func checkLimits(field string, limits []Limit) error {
	if len(limits) > maxLimits {
		return tooMany(field, len(limits))
	}
	for i := range limits {
		if err := limits[i].Validate(); err != nil {
			return err
		}
		for j := range i {
			if limits[j].Name == limits[i].Name {
				return twice(field, limits[i].Name)
			}
		}
	}
	return nil
}

func tooMany(field string, n int) error {
	return invalid(field, n, fmt.Sprintf("limits are more than %d", maxLimits))
}

func twice(field, name string) error { return invalid(field, name, "is there twice") }

// checkAmount returns a *ValidationError unless amount is in least to
// bucket.MaxAmount.
func checkAmount(field, name string, amount, least int64) error {
	if amount < least || amount > bucket.MaxAmount {
		return invalid(field+" "+name, amount, fmt.Sprintf("is not in %d to %d tokens", least, bucket.MaxAmount))
	}
	return nil
}

func noLimits(entity, resource string) error {
	return fmt.Errorf("%w for %s on %s: name them in the call, or store some with SetLimits", ErrNoLimits, entity, resource)
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
