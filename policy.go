package zael

import (
	"fmt"
	"slices"

	"github.com/zeroae/zael/bucket"
)

// A Policy is a resource and the limits on it, checked and compiled once, as
// regexp.Regexp is for expressions: mistakes come up where it is made, at the
// start of a program, and a request by it is checked no more. A Policy is never
// changed and may be used concurrently, by any number of Limiters.
//
//	var chat = zael.MustPolicy("gpt-4", zael.PerMinute("rpm", 100), zael.PerMinute("tpm", 40_000))
//
//	err := limiter.Allow(ctx, chat.For("key-1", 1, 500))
//
// A request can do without one and carry its Limits itself, for limits that are
// known only at run time.
type Policy struct {
	resource string
	names    []string       // of the amounts, by position
	limits   []bucket.Limit // of the entity; none: those that are stored
	parent   []bucket.Limit // of the parent; nil: limits
	stored   bool           // what is stored comes before limits
}

// NewPolicy compiles limits on a resource; at least one and at most 100, with
// different names. The error is a *ValidationError that names the field.
func NewPolicy(resource string, limits ...Limit) (*Policy, error) {
	p := &Policy{resource: resource}
	if err := checkResource("Policy.Resource", resource); err != nil {
		return nil, err
	}
	if len(limits) == 0 {
		return nil, invalid("Policy.Limits", nil, "has no limit: name at least one, or use StoredPolicy")
	}
	var err error
	if p.limits, err = compile("Policy.Limits", limits); err != nil {
		return nil, err
	}
	p.names = namesOf(p.limits)
	return p, nil
}

// MustPolicy is NewPolicy for variables of a package: it panics if there is an
// error.
func MustPolicy(resource string, limits ...Limit) *Policy {
	return Must(NewPolicy(resource, limits...))
}

// StoredPolicy is a policy whose limits are stored (Limiter.SetLimits): for the
// entity on the resource, the entity, the resource, or all, the first of them
// that has any. The names say in which order a request gives amounts. A stored
// limit that they do not name takes 1; a name that is not stored is passed over
// and counted in Stats.UnknownNames, unless none of them is stored, which is an
// error of the request. The error of StoredPolicy is a *ValidationError.
func StoredPolicy(resource string, names ...string) (*Policy, error) {
	if err := checkResource("Policy.Resource", resource); err != nil {
		return nil, err
	}
	if len(names) > maxLimits {
		return nil, tooMany("Policy.Names", len(names))
	}
	for i, name := range names {
		if !validName(name) {
			return nil, invalid("Policy.Names", name, nameRule)
		}
		if slices.Contains(names[:i], name) {
			return nil, twice("Policy.Names", name)
		}
	}
	return &Policy{resource: resource, names: slices.Clone(names), stored: true}, nil
}

// Must returns p, and panics if err is not nil. It is for variables of a package.
func Must(p *Policy, err error) *Policy {
	if err != nil {
		panic(err)
	}
	return p
}

// WithParentLimits returns the policy with limits of its own for the parents of
// entities. Without it a parent has the same limits as the entity, each for
// itself. The error is a *ValidationError.
func (p *Policy) WithParentLimits(limits ...Limit) (*Policy, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	if len(limits) == 0 {
		return nil, invalid("Policy.ParentLimits", nil, "has no limit: name at least one")
	}
	if p.stored {
		return nil, invalid("Policy.ParentLimits", nil, "cannot be had by a StoredPolicy: store them for the parent")
	}
	parent, err := compile("Policy.ParentLimits", limits)
	if err != nil {
		return nil, err
	}
	next := *p
	next.parent = parent
	return &next, nil
}

// Resource returns the resource that the policy is for.
func (p *Policy) Resource() string { return p.resource }

// Names returns the names of the limits, in the order in which For takes amounts.
func (p *Policy) Names() []string { return slices.Clone(p.names) }

// For returns a request of an entity by the policy. Amounts are tokens, 0 to
// 10¹⁵, of each limit in the order of Names; without any each limit takes 1. A
// number of amounts that differs is an error of the request. Amounts by name are
// the request's Consume instead:
//
//	req := chat.For("key-1")
//	req.Consume = zael.Amounts{"tpm": 500} // and 1 of rpm
//
// For allocates nothing with up to four amounts.
func (p *Policy) For(entity string, amounts ...int64) Request {
	r := Request{Entity: entity, Policy: p}
	r.positional.set(amounts)
	return r
}

// check finds a policy that no function here has made.
func (p *Policy) check() error {
	if p == nil {
		return invalid("Policy", nil, "is nil: make one with NewPolicy or StoredPolicy")
	}
	if p.resource == "" {
		return invalid("Policy", nil, "is the zero value: make one with NewPolicy or StoredPolicy")
	}
	return nil
}

// position returns where a name's amount is; -1 if the policy has no such name.
func (p *Policy) position(name string) int { return slices.Index(p.names, name) }

// compile checks limits.
func compile(field string, limits []Limit) ([]bucket.Limit, error) {
	if len(limits) > maxLimits {
		return nil, tooMany(field, len(limits))
	}
	compiled := make([]bucket.Limit, len(limits))
	for i := range limits {
		d, err := definitionOf(&limits[i])
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(compiled[:i], func(l bucket.Limit) bool { return l.Name == limits[i].Name }) {
			return nil, twice(field, limits[i].Name)
		}
		compiled[i] = bucket.Limit{Name: limits[i].Name, Definition: d}
	}
	return compiled, nil
}

func namesOf(limits []bucket.Limit) []string {
	names := make([]string, len(limits))
	for i := range limits {
		names[i] = limits[i].Name
	}
	return names
}

func tooMany(field string, n int) error {
	return invalid(field, n, fmt.Sprintf("limits are more than %d", maxLimits))
}

func twice(field, name string) error { return invalid(field, name, "is named twice") }

// few is how many amounts and limits a request, a decision and an error have in
// themselves, without memory of their own.
const few = 4

// positional are amounts by position.
type positional struct {
	given bool
	n     int
	few   [few]int64
	more  []int64 // all of them, if they are more than few
}

func (a *positional) set(amounts []int64) {
	a.given, a.n = len(amounts) > 0, len(amounts)
	if a.n > few {
		a.more = slices.Clone(amounts)
		return
	}
	copy(a.few[:], amounts)
}

// all returns the amounts.
func (a *positional) all() []int64 {
	if a.n > few {
		return a.more
	}
	return a.few[:a.n]
}
