package api

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/serve/config"
	"github.com/zeroae/zael/internal/serve/leasetext"
	"github.com/zeroae/zael/internal/serve/problem"
	"github.com/zeroae/zael/internal/strictjson"
)

// A leaseSigner has the keys that sign leases: those of the configuration, or else one that
// all servers find in the store.
type leaseSigner struct {
	limiter *zael.Limiter

	mu      sync.Mutex
	secrets []string // of the configuration that keys are made of
	keys    *leasetext.Keys
}

// keysOf returns the keys of a configuration.
func (s *leaseSigner) keysOf(ctx context.Context, config *config.Config) (*leasetext.Keys, error) {
	s.mu.Lock()
	keys, same := s.keys, slices.Equal(s.secrets, config.Leases.Keys)
	s.mu.Unlock()
	if keys != nil && same {
		return keys, nil
	}
	var secrets [][]byte
	for _, secret := range config.Leases.Keys {
		secrets = append(secrets, []byte(secret))
	}
	if len(secrets) == 0 {
		secret, err := s.limiter.LeaseKey(ctx)
		if err != nil {
			return nil, err
		}
		secrets = [][]byte{secret}
	}
	keys, err := leasetext.New(secrets...)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.keys, s.secrets = keys, config.Leases.Keys
	s.mu.Unlock()
	return keys, nil
}

// ended returns a route that ends a lease; amounts is the member that has amounts, if any.
func ended(verb zael.LeaseVerb, amounts string) func(*call) error {
	return func(c *call) error { return c.end(verb, amounts) }
}

// lease reads a body with a lease and, if amounts is not empty, a member with amounts.
func (c *call) lease(amounts string) (*zael.DetachedLease, zael.Amounts, error) {
	var text string
	var given zael.Amounts
	err := c.object(func(r *strictjson.Reader, name string) error {
		switch name {
		case "lease":
			return readInto(&text, r.String)
		case amounts:
			return readAmounts(r, &given)
		}
		return strictjson.Unknown()
	})
	switch {
	case err != nil:
		return nil, nil, err
	case text == "":
		return nil, nil, invalid("lease", "is missing: send what the acquire answered")
	case amounts != "" && len(given) == 0:
		return nil, nil, invalid(amounts, `is missing: say how many tokens, such as {"tpm": 123}`)
	}
	keys, err := c.signer.keysOf(c.ctx, c.env.Config())
	if err != nil {
		return nil, nil, err
	}
	d, err := keys.Parse(text)
	if err != nil {
		return nil, nil, invalid("lease", leasetext.ErrText.Error())
	}
	for _, key := range d.Keys() {
		if !c.principal.MayAcquire(key.Entity) {
			return nil, nil, c.forbid("end leases of " + key.Entity)
		}
	}
	return d, given, nil
}

// An endedBody is how a lease has ended.
type endedBody struct {
	Entity   string         `json:"entity_id"`
	Resource string         `json:"resource"`
	Verb     zael.LeaseVerb `json:"verb"`
	Used     zael.Amounts   `json:"used"` // what stays charged
	Repeated bool           `json:"repeated"`
}

// end serves POST /v1/leases/settle, commit, rollback and release.
func (c *call) end(verb zael.LeaseVerb, amounts string) error {
	d, given, err := c.lease(amounts)
	if err != nil {
		return err
	}
	end, err := c.limiter.EndDetached(c.ctx, d, zael.Ending{Verb: verb, Amounts: given})
	if err != nil {
		return amountsError(err, amounts)
	}
	out := endedBody{Entity: d.Keys()[0].Entity, Resource: d.Keys()[0].Resource, Verb: end.Verb, Used: end.Used, Repeated: end.Repeated}
	if out.Used == nil {
		out.Used = zael.Amounts{}
	}
	return c.answer(http.StatusOK, out)
}

// amountsError returns an error that is about amounts, as all of an ending are, in terms of
// the body.
func amountsError(err error, amounts string) error {
	if v, ok := errors.AsType[*zael.ValidationError](err); ok && amounts != "" {
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
	d, amounts, err := c.lease("amounts")
	if err != nil {
		return err
	}
	keys, err := c.signer.keysOf(c.ctx, c.env.Config())
	if err != nil {
		return err
	}
	more, err := c.limiter.ConsumeDetached(c.ctx, d, amounts)
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
	Held     bool       `json:"held"`
	Deadline *time.Time `json:"deadline"` // null: they are lost
}

// renew serves POST /v1/leases/renew.
func (c *call) renew() error {
	d, _, err := c.lease("")
	if err != nil {
		return err
	}
	r, err := c.limiter.RenewDetached(c.ctx, d)
	if err != nil {
		return err
	}
	out := renewedBody{Held: r.Held}
	if r.Held {
		deadline := r.Deadline.UTC()
		out.Deadline = &deadline
	}
	return c.answer(http.StatusOK, out)
}
