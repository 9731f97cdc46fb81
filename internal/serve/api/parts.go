package api

import (
	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/serve/config"
	"github.com/zeroae/zael/internal/strictjson"
)

// maxAlso is how many parts a request may have beside its own.
const maxAlso = 15

// A partBody is one more bucket of an acquire.
type partBody struct {
	entity, resource, policy string
	limits                   []string
	consume                  zael.Amounts
}

func (p *partBody) member(r *strictjson.Reader, name string) error {
	switch name {
	case "entity":
		return readInto(&p.entity, r.String)
	case "resource":
		return readInto(&p.resource, r.String)
	case "policy":
		return readInto(&p.policy, r.String)
	case "limits":
		return readStrings(r, &p.limits)
	case "consume":
		return readAmounts(r, &p.consume)
	}
	return unknownMember()
}

// check returns an error unless the members go together, and the principal may send them.
func (p *partBody) check(c *call, field string) error {
	switch {
	case p.resource == "" && p.policy == "":
		return invalid(field+".resource", "is missing: name what is used")
	case p.limits != nil && len(p.limits) == 0:
		return invalid(field+".limits", "is empty: name a limit, or leave it out for stored limits")
	case p.policy != "" && p.limits != nil:
		return invalid(field+".policy", "is given beside limits: send one of them")
	case p.entity != "" && !c.principal.MayAcquire(p.entity):
		return c.forbid("acquire for " + p.entity)
	case p.limits != nil && !c.principal.MaySendLimits():
		return c.forbid("send limits: leave them out for stored ones")
	}
	return nil
}

// part returns the part of a request. Its errors name members below field.
func (p *partBody) part(c *call, config *config.Config, field string) (zael.Part, error) {
	part := zael.Part{Entity: p.entity, Consume: p.consume}
	source := limitSource{resource: p.resource, policy: p.policy, limits: p.limits}
	policy, err := source.compile(c, config)
	if policy == nil && err == nil {
		policy, err = zael.StoredPolicy(p.resource)
	}
	part.Policy = policy
	return part, within(field, err)
}

// within returns an error about a member of an object as one about that of the body.
func within(field string, err error) error {
	if err == nil {
		return nil
	}
	f := failureOf(err)
	if f.field == "" {
		return err
	}
	in := *f
	in.field, in.detail = field+"."+f.field, field+"."+f.detail
	return &in
}

// readPartEnds reads how the other parts of a lease are to be ended.
func readPartEnds(r *strictjson.Reader, amounts string, to *[]zael.PartAmount) error {
	return r.Array(func() error {
		var p zael.PartAmount
		err := r.Object(func(name []byte) error {
			switch string(name) {
			case "entity":
				return readInto(&p.Entity, r.String)
			case "resource":
				return readInto(&p.Resource, r.String)
			case amounts:
				return readAmounts(r, &p.Amounts)
			}
			return unknownMember()
		})
		switch {
		case err != nil:
			return err
		case len(p.Amounts) == 0:
			return strictjson.Invalid("has no " + amounts + `: say how many tokens, such as {"tpm": 123}`)
		}
		*to = append(*to, p)
		return nil
	})
}
