package zael

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zeroae/zael/bucket"
)

// Amounts are numbers of tokens by limit name.
type Amounts map[string]int64

// String returns the amounts in order of name: "rpm=1 tpm=500".
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
	FailClosed                 // the request fails with an *UnavailableError
	FailOpen                   // the request is admitted without being charged; see Lease.Degraded and Decision.Degraded
)

// String returns "closed", "open" or "inherit".
func (m FailureMode) String() string {
	switch m {
	case FailClosed:
		return "closed"
	case FailOpen:
		return "open"
	}
	return "inherit"
}

// A Request asks for tokens of the bucket of an entity and a resource. Its limits come
// from a Policy, from Limits, or from the store.
type Request struct {
	// Entity is the caller: 1 to 256 bytes of UTF-8 without control characters, and
	// without a space at either end.
	Entity string

	// Policy is the resource and its limits. Policy.For returns a request with it.
	Policy *Policy

	// Resource is what the caller uses, in a request without a Policy. The rule is that
	// for Entity, and the name _default_ is reserved.
	Resource string
	// Limits are the limits of the entity, at most 100, in a request without a Policy.
	// With UseStoredLimits they hold only if none are stored for the entity and
	// resource, the entity, the resource, or the system.
	Limits []Limit
	// ParentLimits are the limits of the entity's parent, in the same way. Nil means
	// Limits.
	ParentLimits []Limit

	// Consume is how many tokens to take, by limit name: 0 to 10¹⁵ each. A limit that
	// it does not name takes 1, so that a request without amounts counts as one; slots
	// take 0 then, as they have to be released. A limit with 0 takes nothing and refuses only while in debt. All names must be
	// those of limits of the request. A name that the stored limits lack is ignored
	// and counted in Stats.UnknownNames, as long as they have another one. The
	// amounts of Policy.For replace Consume.
	Consume Amounts

	// Cascade takes from the entity's parent too, from both or from none. Limits that
	// the parent does not have are not checked there. Without a parent it has no
	// effect.
	Cascade bool
	// Parent, unless it is empty, is taken from too, as with Cascade, and whatever parent
	// is stored for the entity: for programs that know it better. AcquireDetached has none.
	Parent string
	// UseStoredLimits reads the limits from the store. Entity.Cascade then has the
	// same effect as Cascade.
	UseStoredLimits bool

	// MaxWait lets Acquire wait in line, and Reserve reserve tokens that refill within
	// MaxWait; in both cases no later than the context's deadline. 0 does not wait;
	// on rates it is refused while others of this process wait for the same limits of the
	// same bucket.
	MaxWait time.Duration

	FailureMode FailureMode // zero means Config.FailureMode

	// Also are further buckets, at most 15: tokens are taken from all of them and from the
	// request's own, or from none, by one lease (see Lease.On). Cascade, UseStoredLimits and
	// FailureMode are for all parts; if something is disabled for one, that is the error.
	// MaxWait must be 0, and the limits of all parts stored ones, or of none.
	Also []Part

	positional positional // amounts by the position of the policy's names
}

// A Query asks about the bucket of an entity and a resource. The fields are those of
// [Request].
type Query struct {
	Entity                   string
	Policy                   *Policy
	Resource                 string
	Limits, ParentLimits     []Limit
	Cascade, UseStoredLimits bool
	Parent                   string
}

// A Scope is what stored limits apply to. With both fields it is an entity on a
// resource; with Entity alone, the entity on all resources for which it has no limits
// of its own; with Resource alone, all entities on the resource. The zero Scope is the
// system: everything for which nothing else is stored.
type Scope struct {
	Entity, Resource string
}

// String returns the scope as messages name it, such as "entity key-1 resource gpt-4".
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

// DefaultResource stands for no resource in a Scope with an entity:
// Scope{Entity: "e", Resource: DefaultResource} is the same as Scope{Entity: "e"}.
const DefaultResource = "_default_"

// A literal is the policy that was compiled last from the limits of a request.
type literal struct {
	policy          *Policy
	limits, parents []Limit
}

// policyOf returns the policy of req, or one compiled from its limits.
func (a *attempt) policyOf(req *Request) (*Policy, error) {
	if p := req.Policy; p != nil {
		switch {
		case req.Resource != "" && req.Resource != p.bound.Resource:
			return nil, invalid("Request.Resource", req.Resource, fmt.Sprintf("is not the policy's, %q: leave it out", p.bound.Resource))
		case req.Limits != nil:
			return nil, invalid("Request.Limits", nil, "are given beside a Policy: use one of them")
		case req.ParentLimits != nil:
			return nil, invalid("Request.ParentLimits", nil, "are given beside a Policy: use Policy.WithParentLimits")
		}
		return p, p.check()
	}
	last := &a.literal
	if p := last.policy; p != nil && p.bound.Resource == req.Resource && slices.Equal(last.limits, req.Limits) && slices.Equal(last.parents, req.ParentLimits) {
		return p, nil
	}
	p := &Policy{bound: PolicyLimits{Resource: req.Resource}}
	err := checkResource("Request.Resource", req.Resource)
	if err == nil {
		err = p.bind("Request.Limits", req.Limits)
	}
	if err == nil && req.ParentLimits != nil {
		p.parent, err = compile("Request.ParentLimits", req.ParentLimits)
	}
	if err != nil {
		return nil, err
	}
	*last = literal{p, slices.Clone(req.Limits), slices.Clone(req.ParentLimits)}
	return p, nil
}

// check returns an error if a request by p is not valid, whatever is stored.
func (req *Request) check(p *Policy) error {
	if err := checkEntity("Request.Entity", req.Entity); err != nil {
		return err
	}
	if req.Parent != "" {
		if err := checkEntity("Request.Parent", req.Parent); err != nil {
			return err
		}
		if req.Parent == req.Entity {
			return invalid("Request.Parent", req.Parent, "is the entity itself")
		}
	}
	if req.MaxWait < 0 {
		return invalid("Request.MaxWait", req.MaxWait, "is negative: use 0 not to wait")
	}
	if req.FailureMode > FailOpen {
		return invalid("Request.FailureMode", uint8(req.FailureMode), "is neither FailClosed nor FailOpen: use one of them, or 0 for the Limiter's")
	}
	if err := req.checkAmounts(p); err != nil {
		return err
	}
	if len(p.bound.Limits) == 0 && !req.stored() {
		return noLimitsError(req.Entity, p.bound.Resource)
	}
	return nil
}

func (req *Request) checkAmounts(p *Policy) error {
	if !req.positional.given() {
		for name, amount := range req.Consume {
			if err := checkAmount("Request.Consume", name, amount, 0); err != nil {
				return err
			}
			if !req.stored() && len(p.bound.Limits) > 0 && !req.names(p, name) {
				return invalid("Request.Consume", name, "is not the name of a limit of the request")
			}
		}
		return nil
	}
	amounts := req.positional.all()
	if req.Consume != nil {
		return invalid("Request.Consume", req.Consume.String(), "is given beside amounts by position: use one of them")
	}
	if len(amounts) != len(p.names) {
		return invalid("amounts of Policy.For", len(amounts), fmt.Sprintf(
			"are not as many as the %d limits of the policy (%s): give one for each, or none", len(p.names), strings.Join(p.names, ", ")))
	}
	for i, amount := range amounts {
		if err := checkAmount("amount of", p.names[i], amount, 0); err != nil {
			return err
		}
	}
	return nil
}

// maxWait returns how long the request may wait: at most until ctx's deadline.
func (req *Request) maxWait(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok && req.MaxWait > 0 {
		return min(req.MaxWait, max(0, time.Until(deadline)))
	}
	return req.MaxWait
}

// stored reports whether the store is asked for the limits of the request.
func (req *Request) stored() bool {
	return req.UseStoredLimits || req.Policy != nil && req.Policy.stored
}

// names reports whether name is that of a limit which the request itself has.
func (req *Request) names(p *Policy, name string) bool {
	is := func(l bucket.Limit) bool { return l.Name == name }
	return slices.ContainsFunc(p.bound.Limits, is) || (req.Cascade || req.Parent != "") && slices.ContainsFunc(p.parent, is)
}

// amount returns what to take of limit number i of a bucket. What is not said is 1, but
// of slots, which only a lease can hold, 0.
func (req *Request) amount(p *Policy, i int, name string, kind bucket.Kind) int64 {
	unsaid := int64(btoi(kind != bucket.Slots))
	if !req.positional.given() {
		if n, ok := req.Consume[name]; ok {
			return n
		}
		return unsaid
	}
	if i >= len(p.names) || p.names[i] != name {
		if i = p.position(name); i < 0 {
			return unsaid
		}
	}
	return req.positional.all()[i]
}

func noLimitsError(entity, resource string) error {
	return fmt.Errorf("%w for %s on %s: name them in the request, or store some with SetLimits", ErrNoLimits, entity, resource)
}

// checkAmount returns a *ValidationError unless amount is in least to
// bucket.MaxAmount.
func checkAmount(field, name string, amount, least int64) error {
	if amount < least || amount > bucket.MaxAmount {
		return invalid(field+" "+name, amount, fmt.Sprintf("is not in %d to %d tokens", least, bucket.MaxAmount))
	}
	return nil
}
