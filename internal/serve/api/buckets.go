package api

import (
	"cmp"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/decimal"
	"github.com/zeroae/zael/internal/strictjson"
)

// A levelsBody is what is left of the limits of a bucket.
type levelsBody struct {
	Entity    string       `json:"entity_id"`
	Resource  string       `json:"resource"`
	Available zael.Amounts `json:"available"`
}

// An availableBody is a levelsBody, and how long it takes until amounts are there.
type availableBody struct {
	levelsBody

	RetryAfterSeconds *float64 `json:"retry_after_seconds"` // null: no amounts were named, or never
	Never             string   `json:"never,omitempty"`     // why no wait helps
}

func availableQuery() []string {
	return []string{"resource", "policy", "limits*", "parent_limits*", "stored", "cascade", "consume*"}
}

// available serves GET /v1/entities/{id}/available.
func (c *call) available() error {
	q, amounts, err := c.levelsQuery()
	if err != nil {
		return err
	}
	out := availableBody{levelsBody: levelsBody{Entity: c.name, Resource: cmp.Or(q.Resource, q.Policy.Resource())}}
	if out.Available, err = c.limiter.Available(c.ctx, q); err != nil {
		return err
	}
	if len(amounts) > 0 {
		wait, err := c.limiter.TimeUntilAvailable(c.ctx, q, amounts)
		switch {
		case errors.Is(err, zael.ErrNever):
			out.Never = strings.TrimPrefix(err.Error(), zael.ErrNever.Error()+": ")
		case err != nil:
			return err
		case wait < zael.Never:
			seconds := decimal.Seconds(wait)
			out.RetryAfterSeconds = &seconds
		}
	}
	return c.answer(http.StatusOK, out)
}

// levelsQuery returns the bucket that is asked about, and the amounts of consume.
func (c *call) levelsQuery() (q zael.Query, amounts zael.Amounts, err error) {
	q.Entity = c.name
	if !c.principal.MayReadLevels(c.name) {
		return q, nil, c.forbid("read " + c.name)
	}
	if q.Cascade, err = c.query.bool("cascade"); err != nil {
		return q, nil, err
	}
	if q.UseStoredLimits, err = c.query.bool("stored"); err != nil {
		return q, nil, err
	}
	source := limitSource{c.query.get("resource"), c.query.get("policy"), c.query.values["limits"], c.query.values["parent_limits"]}
	if err := c.checkLevels(&source, q.UseStoredLimits); err != nil {
		return q, nil, err
	}
	if q.Policy, err = source.compile(c, c.env.Config()); err != nil {
		return q, nil, err
	}
	if q.Policy == nil {
		q.Resource, q.UseStoredLimits = source.resource, true
	}
	if err := c.mayReadParentOf(&q); err != nil {
		return q, nil, err
	}
	amounts, err = parseAmounts(c.query.values["consume"])
	return q, amounts, err
}

// checkLevels checks that the parameters go together, and that the principal may send them.
func (c *call) checkLevels(s *limitSource, stored bool) error {
	switch {
	case s.resource == "" && s.policy == "":
		return invalid("resource", "is missing: name one")
	case s.policy != "" && (s.limits != nil || stored):
		return invalid("policy", "is given beside limits or stored: send one of them")
	case s.parents != nil && s.limits == nil:
		return invalid("parent_limits", "are given without limits: send both")
	case s.limits != nil && !c.principal.MaySendLimits():
		return c.forbid("send limits: leave them out for stored ones")
	}
	return nil
}

// mayReadParentOf returns an error if a query reads a parent that the principal's prefix does not
// cover.
func (c *call) mayReadParentOf(q *zael.Query) error {
	if !q.Cascade && !q.UseStoredLimits {
		return nil
	}
	e, outer, err := c.outerParent(c.name)
	if err == nil && outer && (q.Cascade || e.Cascade) {
		return c.forbid("read " + e.ParentID + ", the parent of " + c.name)
	}
	return err
}

// parseAmounts reads amounts like "tpm=500".
func parseAmounts(texts []string) (zael.Amounts, error) {
	amounts := zael.Amounts{}
	for i, text := range texts {
		name, number, ok := strings.Cut(text, "=")
		n, err := strconv.ParseInt(number, 10, 64)
		if !ok || err != nil {
			return nil, invalid(index("consume", i), "is not a name and a whole number, such as tpm=500")
		}
		if _, twice := amounts[name]; twice {
			return nil, invalid(index("consume", i), "names a limit twice")
		}
		amounts[name] = n
	}
	return amounts, nil
}

// reset serves POST /v1/entities/{id}/reset.
func (c *call) reset() error {
	var names []string
	return c.refill(func(r *strictjson.Reader, name string) error {
		if name != "limit_names" {
			return unknownMember()
		}
		return readStrings(r, &names)
	}, func(resource string, options zael.AdminOptions) (zael.Amounts, error) {
		if names != nil && len(names) == 0 {
			return nil, invalid("limit_names", "is empty: name a limit, or leave it out for all")
		}
		return c.limiter.Reset(c.ctx, c.name, resource, names, options)
	})
}

// topUp serves POST /v1/entities/{id}/top-up.
func (c *call) topUp() error {
	var amounts zael.Amounts
	return c.refill(func(r *strictjson.Reader, name string) error {
		if name != "amounts" {
			return unknownMember()
		}
		return readAmounts(r, &amounts)
	}, func(resource string, options zael.AdminOptions) (zael.Amounts, error) {
		if len(amounts) == 0 {
			return nil, invalid("amounts", `is missing: say how many tokens, such as {"tpm": 10000}`)
		}
		return c.limiter.TopUp(c.ctx, c.name, resource, amounts, options)
	})
}

// refill changes a bucket and answers with what is left. member reads what the body has
// beside the resource.
func (c *call) refill(member func(*strictjson.Reader, string) error, change func(resource string, options zael.AdminOptions) (zael.Amounts, error)) error {
	if !c.principal.MayChange(c.name) {
		return c.forbid("change " + c.name)
	}
	options, err := c.options()
	if err != nil {
		return err
	}
	var resource string
	err = c.object(func(r *strictjson.Reader, name string) error {
		if name == "resource" {
			return readInto(&resource, r.String)
		}
		return member(r, name)
	})
	if err != nil {
		return err
	}
	if resource == "" {
		return invalid("resource", "is missing: name one")
	}
	available, err := change(resource, options)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, levelsBody{c.name, resource, available})
}
