package api

import (
	"errors"
	"net/http"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/decimal"
	"github.com/zeroae/zael/internal/serve/leasetext"
	"github.com/zeroae/zael/internal/serve/problem"
	"github.com/zeroae/zael/internal/strictjson"
)

// endLease returns the handler of a route that ends a lease; amounts is the member that has amounts, if any.
func endLease(verb zael.LeaseVerb, amounts string) func(*call) error {
	return func(c *call) error { return c.end(verb, amounts) }
}

// A leaseBody is the body of what is done with a lease.
type leaseBody struct {
	text   string
	given  zael.Amounts
	also   []zael.PartAmount
	member string // that has amounts; empty: none
	parts  bool   // also may be there
}

func (in *leaseBody) read(r *strictjson.Reader, name string) error {
	switch {
	case name == "lease":
		return readInto(&in.text, r.String)
	case name == in.member && name != "":
		return readAmounts(r, &in.given)
	case name == "also" && in.parts:
		return readPartEnds(r, in.member, &in.also)
	}
	return unknownMember()
}

// lease reads a body with a lease, and returns the lease.
func (c *call) lease(in *leaseBody) (*zael.DetachedLease, error) {
	err := c.object(in.read)
	switch {
	case err != nil:
		return nil, err
	case in.text == "":
		return nil, invalid("lease", "is missing: send what the acquire answered")
	case in.member != "" && len(in.given) == 0 && len(in.also) == 0:
		return nil, invalid(in.member, `is missing: say how many tokens, such as {"tpm": 123}`)
	}
	keys, err := c.signer.Keys(c.ctx, c.env.Config().Leases.Keys)
	if err != nil {
		return nil, err
	}
	d, err := keys.Parse(in.text)
	if err != nil {
		return nil, invalid("lease", leasetext.ErrText.Error())
	}
	for _, key := range d.Keys() {
		if !c.principal.MayAcquire(key.Entity) {
			return nil, c.forbid("end leases of " + key.Entity)
		}
	}
	return d, nil
}

// An endedBody is how a lease has ended.
type endedBody struct {
	Entity   string         `json:"entity_id"`
	Resource string         `json:"resource"`
	Verb     zael.LeaseVerb `json:"verb"`
	Used     zael.Amounts   `json:"used"` // what stays charged
	Also     []partEnded    `json:"also,omitempty"`
	Repeated bool           `json:"repeated"`
}

// A partEnded is what stays charged of another part.
type partEnded struct {
	Entity   string       `json:"entity_id"`
	Resource string       `json:"resource"`
	Used     zael.Amounts `json:"used"`
}

// end serves POST /v1/leases/settle, commit, rollback and release.
func (c *call) end(verb zael.LeaseVerb, amounts string) error {
	in := leaseBody{member: amounts, parts: amounts != ""}
	d, err := c.lease(&in)
	if err != nil {
		return err
	}
	end, err := c.limiter.EndDetached(c.ctx, d, zael.Ending{Verb: verb, Amounts: in.given, Also: in.also})
	if err != nil {
		return amountsError(err, amounts)
	}
	out := endedBody{Entity: d.Keys()[0].Entity, Resource: d.Keys()[0].Resource, Verb: end.Verb, Used: end.Used, Repeated: end.Repeated}
	if out.Used == nil {
		out.Used = zael.Amounts{}
	}
	for _, p := range end.Also {
		out.Also = append(out.Also, partEnded{p.Entity, p.Resource, p.Amounts})
	}
	return c.answer(http.StatusOK, out)
}

// amountsError returns an error that is about amounts, as all of an ending are, in terms of
// the body.
func amountsError(err error, amounts string) error {
	if v, ok := errors.AsType[*zael.ValidationError](err); ok && amounts != "" {
		if v.Field == "Ending.Also" {
			amounts = "also"
		}
		return &failure{code: problem.Invalid, detail: text(v), field: amounts, reason: v.Reason}
	}
	return err
}

// A consumedBody is the lease in place of one that took more.
type consumedBody struct {
	Lease string `json:"lease"`
}

// consume serves POST /v1/leases/consume.
func (c *call) consume() error {
	in := leaseBody{member: "amounts"}
	d, err := c.lease(&in)
	if err != nil {
		return err
	}
	key, err := c.idempotencyKey()
	if err != nil {
		return err
	}
	keys, err := c.signer.Keys(c.ctx, c.env.Config().Leases.Keys)
	if err != nil {
		return err
	}
	more, err := c.limiter.ConsumeDetached(c.ctx, d, in.given, zael.ConsumeOptions{IdempotencyKey: key})
	if v, ok := errors.AsType[*zael.ValidationError](err); ok && v.Field == "ConsumeOptions.IdempotencyKey" {
		return invalid(keyHeader, v.Reason)
	}
	if err != nil {
		return amountsError(err, "amounts")
	}
	text, err := keys.Text(more)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, consumedBody{text})
}

// A renewedBody tells whether a lease has its slots, and until when.
type renewedBody struct {
	Held           bool       `json:"held"`
	Deadline       *time.Time `json:"deadline"`         // null: they are lost
	RenewInSeconds *float64   `json:"renew_in_seconds"` // a quarter of the hold; null: there are no slots to renew
}

// renew serves POST /v1/leases/renew.
func (c *call) renew() error {
	d, err := c.lease(new(leaseBody))
	if err != nil {
		return err
	}
	r, err := c.limiter.RenewDetached(c.ctx, d)
	if err != nil {
		return err
	}
	out := renewedBody{Held: r.Held}
	if r.Held {
		if hold := d.Hold(); hold > 0 {
			again := decimal.Seconds(hold / 4)
			out.RenewInSeconds = &again
		}
		deadline := r.Deadline.UTC()
		out.Deadline = &deadline
	}
	return c.answer(http.StatusOK, out)
}
