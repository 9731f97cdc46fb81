package zael

import (
	"fmt"
	"slices"

	"github.com/zeroae/zael/bucket"
)

// A Policy is a resource and its limits, checked and compiled once, as a
// [regexp.Regexp] is: mistakes show where it is made, when a program starts, and
// requests with it need no more checks. A Policy never changes and may be used
// concurrently, by any number of Limiters.
//
//	var chat = zael.MustPolicy("gpt-4", zael.PerMinute("rpm", 100), zael.PerMinute("tpm", 40_000))
//
//	err := limiter.Allow(ctx, chat.For("key-1", 1, 500))
//
// A request can have Limits instead of a Policy, if they are known only at run time.
type Policy struct {
	bound  PolicyLimits   // of the entity; none if they are stored
	few    bool           // these are few
	slots  bool           // some of these are slots
	unsaid [few]int64     // the amounts of the first of these if a request says none
	names  []string       // in the order of amounts by position
	parent []bucket.Limit // the parent's; nil means the entity's
	stored bool           // stored limits come before these
}

// NewPolicy compiles 1 to 100 limits, with different names, on a resource. The error is a
// [*ValidationError].
func NewPolicy(resource string, limits ...Limit) (*Policy, error) {
	p := &Policy{bound: PolicyLimits{Resource: resource}}
	if err := checkResource("Policy.Resource", resource); err != nil {
		return nil, err
	}
	if len(limits) == 0 {
		return nil, invalid("Policy.Limits", nil, "has no limit: name at least one, or use StoredPolicy")
	}
	if err := p.bind("Policy.Limits", limits); err != nil {
		return nil, err
	}
	return p, nil
}

// bind compiles the limits of a policy.
func (p *Policy) bind(field string, limits []Limit) (err error) {
	if p.bound.Limits, err = compile(field, limits); err != nil {
		return err
	}
	p.few = len(limits) > 0 && len(limits) <= few
	p.names = make([]string, len(limits))
	for i := range p.bound.Limits {
		l := &p.bound.Limits[i]
		slots := l.Definition.Kind == bucket.Slots
		p.names[i], p.slots = l.Name, p.slots || slots
		if i < few && !slots {
			p.unsaid[i] = 1
		}
	}
	return nil
}

// MustPolicy is like [NewPolicy] but panics if there is an error. It is for package
// variables.
func MustPolicy(resource string, limits ...Limit) *Policy {
	return Must(NewPolicy(resource, limits...))
}

// StoredPolicy returns a policy whose limits are stored (see [Limiter.SetLimits]): for
// the entity on the resource, the entity, the resource, or the system, the first of
// these that has any. names is the order of amounts in a request. A stored limit that
// names lacks takes 1. A name that is not stored is ignored and counted in
// Stats.UnknownNames; a request none of whose names is stored fails. The error of
// StoredPolicy is a [*ValidationError].
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
			return nil, namedTwice("Policy.Names", name)
		}
	}
	return &Policy{bound: PolicyLimits{Resource: resource}, names: slices.Clone(names), stored: true}, nil
}

// Must returns p and panics if err is not nil. It is for package variables.
func Must(p *Policy, err error) *Policy {
	if err != nil {
		panic(err)
	}
	return p
}

// WithParentLimits returns the policy with other limits for the parents of entities.
// Otherwise a parent has limits like the entity's. The error is a [*ValidationError].
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

// Resource returns the resource that the policy is for; "" if the policy is nil.
func (p *Policy) Resource() string {
	if p == nil {
		return ""
	}
	return p.bound.Resource
}

// Names returns the names of the limits, in the order in which For takes amounts; none
// if the policy is nil.
func (p *Policy) Names() []string {
	if p == nil {
		return nil
	}
	return slices.Clone(p.names)
}

// For returns a request of an entity with the policy. It takes amounts, 0 to 10¹⁵
// tokens, of the limits in the order of Names; without amounts it takes 1 of each. If
// there are fewer amounts than limits, or more, the request fails. To name the limits,
// use Request.Consume instead:
//
//	req := chat.For("key-1")
//	req.Consume = zael.Amounts{"tpm": 500} // and 1 of rpm
//
// For does not allocate with up to four amounts.
func (p *Policy) For(entity string, amounts ...int64) Request {
	r := Request{Entity: entity, Policy: p}
	r.positional.set(amounts)
	return r
}

// check returns an error if the policy was not made by one of these functions.
func (p *Policy) check() error {
	if p == nil {
		return invalid("Policy", nil, "is nil: make one with NewPolicy or StoredPolicy")
	}
	if p.bound.Resource == "" {
		return invalid("Policy", nil, "is the zero value: make one with NewPolicy or StoredPolicy")
	}
	return nil
}

// position returns the position of a name's amount, or -1.
func (p *Policy) position(name string) int { return slices.Index(p.names, name) }

// compile returns checked limits.
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
			return nil, namedTwice(field, limits[i].Name)
		}
		compiled[i] = bucket.Limit{Name: limits[i].Name, Definition: d}
	}
	return compiled, nil
}

func tooMany(field string, n int) error {
	return invalid(field, n, fmt.Sprintf("limits are more than %d", maxLimits))
}

func namedTwice(field, name string) error { return invalid(field, name, "is named twice") }

// few is how many amounts and limits a request, a decision and an error hold without
// allocating.
const few = 4

// positional are amounts by position.
type positional struct {
	few  [few]int64
	n    int
	more *[]int64 // all of them if there are more than few
}

func (a *positional) set(amounts []int64) {
	if a.n = len(amounts); a.n > few {
		more := slices.Clone(amounts)
		a.more = &more
		return
	}
	copy(a.few[:], amounts)
}

// given reports whether there are any.
func (a *positional) given() bool { return a.n > 0 }

// all returns the amounts.
func (a *positional) all() []int64 {
	if a.n > few {
		return *a.more
	}
	return a.few[:a.n]
}
