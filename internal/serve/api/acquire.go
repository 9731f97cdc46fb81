package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/decimal"
	"github.com/zeroae/zael/internal/httpedge"
	"github.com/zeroae/zael/internal/serve"
	"github.com/zeroae/zael/internal/serve/config"
	"github.com/zeroae/zael/internal/serve/problem"
	"github.com/zeroae/zael/internal/strictjson"
)

const acquirePath = "/v1/acquire"

// An acquireBody is the body of an acquire.
type acquireBody struct {
	entity, resource     string
	policy               string // name of one of the configuration
	limits, parentLimits []string
	consume              zael.Amounts
	stored               *bool // limits come from the store; nil: if the request names none
	cascade, lease       bool
	maxWait              time.Duration
	mode                 zael.FailureMode
	also                 []partBody
}

func (in *acquireBody) member(r *strictjson.Reader, name string) error {
	switch name {
	case "entity":
		return readInto(&in.entity, r.String)
	case "resource":
		return readInto(&in.resource, r.String)
	case "policy":
		return readInto(&in.policy, r.String)
	case "limits":
		return readStrings(r, &in.limits)
	case "parent_limits":
		return readStrings(r, &in.parentLimits)
	case "consume":
		return readAmounts(r, &in.consume)
	case "stored":
		in.stored = new(bool)
		return readInto(in.stored, r.Bool)
	case "cascade":
		return readInto(&in.cascade, r.Bool)
	case "lease":
		return readInto(&in.lease, r.Bool)
	case "max_wait":
		return readInto(&in.maxWait, r.Duration)
	case "failure_mode":
		return readFailureMode(r, &in.mode)
	case "also":
		in.also = []partBody{}
		return r.Array(func() error {
			if len(in.also) == maxAlso {
				return strictjson.Invalid("is one too many: a request has at most 15 other parts")
			}
			in.also = append(in.also, partBody{})
			part := &in.also[len(in.also)-1]
			return r.Object(func(name []byte) error { return part.member(r, string(name)) })
		})
	}
	return unknownMember()
}

// check returns an error unless the members go together, and the principal may send them.
func (in *acquireBody) check(c *call, config *config.Config) error {
	if err := cmp.Or(in.checkMembers(config), in.checkLimits(), in.checkRights(c)); err != nil {
		return err
	}
	for i := range in.also {
		if err := in.also[i].check(c, index("also", i)); err != nil {
			return err
		}
	}
	return nil
}

// checkMembers checks what the request is about, and how long it may wait.
func (in *acquireBody) checkMembers(config *config.Config) error {
	switch {
	case in.entity == "":
		return invalid("entity", "is missing: name whose limits they are")
	case in.resource == "" && in.policy == "":
		return invalid("resource", "is missing: name what is used")
	case in.maxWait < 0:
		return invalid("max_wait", "is negative: send 0 not to wait")
	case in.maxWait > config.Max.Wait:
		return invalid("max_wait", "is more than "+config.Max.Wait.String()+", the longest wait here")
	}
	return nil
}

// checkLimits checks that the limits come from one place: the request, a policy or the store.
func (in *acquireBody) checkLimits() error {
	switch {
	case in.limits != nil && len(in.limits) == 0:
		return invalid("limits", "is empty: name a limit, or leave it out for stored limits")
	case in.parentLimits != nil && len(in.parentLimits) == 0:
		return invalid("parent_limits", "is empty: name a limit, or leave it out for those of limits")
	case in.parentLimits != nil && in.limits == nil:
		return invalid("parent_limits", "are given without limits: send both")
	case in.policy != "" && in.limits != nil:
		return invalid("policy", "is given beside limits: send one of them")
	case in.policy != "" && in.stored != nil && *in.stored:
		return invalid("policy", "is given beside stored: send one of them")
	case in.policy == "" && in.limits == nil && in.stored != nil && !*in.stored:
		return invalid("stored", "is false, and no limits are named: name some, or a policy")
	}
	return nil
}

// checkRights checks that the principal may send the members.
func (in *acquireBody) checkRights(c *call) error {
	switch {
	case !c.principal.MayAcquire(in.entity):
		return c.forbid("acquire for " + in.entity)
	case in.limits != nil && !c.principal.MaySendLimits():
		return c.forbid("send limits: leave them out for stored ones")
	case in.mode != 0 && !c.principal.MaySendLimits():
		return c.forbid("send a failure mode: leave it out for the stored one")
	}
	return nil
}

// request returns what to acquire.
func (in *acquireBody) request(c *call, config *config.Config) (zael.Request, error) {
	if err := in.check(c, config); err != nil {
		return zael.Request{}, err
	}
	req := zael.Request{Entity: in.entity, Consume: in.consume, Cascade: in.cascade, MaxWait: in.maxWait, FailureMode: in.mode}
	source := limitSource{in.resource, in.policy, in.limits, in.parentLimits}
	policy, err := source.compile(c, config)
	if err != nil {
		return req, err
	}
	if req.Policy = policy; policy == nil {
		req.Resource, req.UseStoredLimits = in.resource, true
	} else if in.stored != nil {
		req.UseStoredLimits = *in.stored
	}
	for i := range in.also {
		part, err := in.also[i].part(c, config, index("also", i))
		if err != nil {
			return req, err
		}
		if policy == nil && (in.also[i].limits != nil || in.also[i].policy != "") {
			return req, invalid(index("also", i), "has limits, and the request's are the stored ones: make them requests of their own")
		}
		req.Also = append(req.Also, part)
	}
	return req, nil
}

// A limitSource is where a request's limits come from: a policy of the configuration, the request,
// or, without both, the store.
type limitSource struct {
	resource, policy string
	limits, parents  []string // as text; parents are those of the entity's parent
}

// compile returns the policy of the limits; nil if they are stored.
func (s *limitSource) compile(c *call, config *config.Config) (*zael.Policy, error) {
	switch {
	case s.policy != "":
		p, ok := config.Policies[s.policy]
		if !ok {
			return nil, invalid("policy", strconv.Quote(s.policy)+" is not one of the configuration")
		}
		if s.resource != "" && s.resource != p.Resource() {
			return nil, invalid("resource", "is not the policy's, "+p.Resource()+": leave it out")
		}
		return p, nil
	case s.limits != nil:
		return c.policies.policy(s.resource, s.limits, s.parents)
	}
	return nil, nil
}

// acquire serves POST /v1/acquire.
func (c *call) acquire() error {
	if len(c.r.URL.RawQuery) > 0 {
		return invalid("query", "is not read here: send the members in the body")
	}
	b := c.buffer()
	defer c.recycle(b)
	if err := c.read(b); err != nil {
		return err
	}
	var in acquireBody
	if err := readObject(b.in, in.member); err != nil {
		return err
	}
	req, err := in.request(c, c.env.Config())
	if err != nil {
		return err
	}
	key, err := c.idempotencyKey()
	if err != nil {
		return err
	}
	taken, err := c.take(&in, req, key)
	if exceeded, ok := errors.AsType[*zael.ExceededError](err); ok {
		decision := exceeded.Decision()
		return cmp.Or(c.checkCovered(&in, &decision), err)
	}
	if err != nil {
		return err
	}
	if err := c.checkTaken(&in, &taken.decision); err != nil {
		return errors.Join(err, taken.rollback(c.r.Context()))
	}
	b.out = appendAdmitted(b.out[:0], &in, &req, taken)
	if !c.send(b.out, &taken.decision) && key == "" { // with a key the client asks again
		_ = taken.rollback(c.r.Context()) // if that fails, the tokens refill
	}
	return nil
}

// A taken is what an acquire took.
type taken struct {
	decision zael.Decision
	delay    time.Duration
	lease    string // "" if none was asked for
	rollback func(context.Context) error
}

// take acquires. With a lease or an idempotency key it takes a detached lease, so that any server
// can end it or answer again.
func (c *call) take(in *acquireBody, req zael.Request, key string) (*taken, error) {
	out := new(taken)
	if !in.lease && key == "" {
		lease, err := acquireWaiting(c, &req, func(ctx context.Context) (*zael.Lease, error) { return c.limiter.Acquire(ctx, req) })
		if err != nil {
			return nil, err
		}
		out.decision, out.delay, out.rollback = lease.Decision(), lease.Delay(), lease.Rollback
		return out, nil
	}
	config := c.env.Config()
	keys, err := c.signer.Keys(c.r.Context(), config.Leases.Keys) // before anything is taken
	if err != nil {
		return nil, err
	}
	options := zael.DetachOptions{MaxAge: config.Leases.MaxAge, Principal: c.principal.Name, IdempotencyKey: key}
	lease, err := acquireWaiting(c, &req, func(ctx context.Context) (*zael.DetachedLease, error) {
		return c.limiter.AcquireDetached(ctx, req, options)
	})
	if err != nil {
		return nil, err
	}
	out.decision, out.delay = lease.Decision(), lease.Delay()
	out.rollback = func(ctx context.Context) error {
		_, err := c.limiter.EndDetached(ctx, lease, zael.Ending{Verb: zael.LeaseRollback})
		return err
	}
	if in.lease {
		if out.lease, err = keys.Text(lease); err != nil {
			return nil, errors.Join(err, out.rollback(c.r.Context()))
		}
	}
	return out, nil
}

// acquireWaiting acquires, and waits if the request may. The wait ends when the client leaves and
// when the daemon shuts down.
func acquireWaiting[L any](c *call, req *zael.Request, acquire func(context.Context) (L, error)) (L, error) {
	if req.MaxWait == 0 {
		return acquire(c.r.Context())
	}
	return serve.AcquireWaiting(c.r.Context(), c.env, acquire)
}

// checkCovered returns an error if a decision is about an entity for which the principal may not
// acquire: how the limits of such a parent stand is not shown, in a refusal either.
func (c *call) checkCovered(in *acquireBody, d *zael.Decision) error {
	for s := range d.All() {
		if s.Entity != in.entity && !c.principal.MayAcquire(s.Entity) {
			return c.forbid("acquire for " + s.Entity + ", the parent of " + in.entity)
		}
	}
	return nil
}

// checkTaken returns an error if the principal may not have what was taken: from a parent that its
// prefix does not cover, or slots without a lease to hold them.
func (c *call) checkTaken(in *acquireBody, d *zael.Decision) error {
	if err := c.checkCovered(in, d); err != nil {
		return err
	}
	for s := range d.All() {
		if !in.lease && s.Limit.Kind() == zael.KindSlots && s.Requested > 0 {
			return invalid("lease", "is false, and "+s.Limit.Name+" are slots, which only a lease holds: send true")
		}
	}
	return nil
}

// send writes the answer to an acquire, and reports whether all of it was sent. If the client has
// left, nothing is written.
func (c *call) send(body []byte, d *zael.Decision) bool {
	if c.r.Context().Err() != nil {
		return false
	}
	h := c.w.Header()
	if d.Len() > 0 {
		httpedge.SetXRateLimit(h, d, new([3]string))
	}
	h["Content-Type"] = []string{"application/json"}
	h["Cache-Control"] = []string{"no-store"}
	h["X-Content-Type-Options"] = []string{"nosniff"}
	h["Content-Length"] = []string{strconv.Itoa(len(body))} // so that Flush sends it as one
	if _, err := c.w.Write(body); err != nil {
		return false
	}
	err := http.NewResponseController(c.w).Flush()
	return err == nil || errors.Is(err, errors.ErrUnsupported)
}

// appendAdmitted appends the answer of an acquire that is admitted.
func appendAdmitted(b []byte, in *acquireBody, req *zael.Request, taken *taken) []byte {
	d := &taken.decision
	resource := req.Resource
	if req.Policy != nil {
		resource = req.Policy.Resource()
	}
	b = append(b, `{"admitted":true,"degraded":`...)
	b = strconv.AppendBool(b, d.Degraded)
	b = append(b, `,"bypassed":`...)
	b = strconv.AppendBool(b, d.Bypassed)
	b = append(b, `,"entity_id":`...)
	b = appendString(b, in.entity)
	b = append(b, `,"resource":`...)
	b = appendString(b, resource)
	b = append(b, `,"waited_seconds":`...)
	b = strconv.AppendFloat(b, decimal.Seconds(taken.delay), 'f', -1, 64)
	b = append(b, `,"lease":`...)
	if taken.lease == "" {
		b = append(b, "null"...)
	} else {
		b = appendString(b, taken.lease)
	}
	b = append(b, `,"limits":[`...)
	b = appendStatuses(b, d)
	return append(b, "]}\n"...)
}

// appendStatuses appends the statuses of a decision, with commas between them.
func appendStatuses(b []byte, d *zael.Decision) []byte {
	for i := range d.Len() {
		if i > 0 {
			b = append(b, ',')
		}
		b = d.Status(i).AppendJSON(b)
	}
	return b
}

// appendRefusal appends the problem of a refusal: the members of an ExceededError, and the
// names of the limits that refused.
func appendRefusal(b []byte, err *zael.ExceededError, d *zael.Decision, code problem.Code) []byte {
	message := appendString(nil, text(err))
	b = append(b, `{"type":"`+httpedge.QuotaExceeded+`","title":"Too Many Requests","status":429,"detail":`...)
	b = append(b, message...)
	b = append(b, `,"error":"`...)
	b = append(b, code...)
	b = append(b, `","message":`...)
	b = append(b, message...)
	wait := d.RetryAfter()
	if wait == zael.Never {
		b = append(b, `,"retry_after_seconds":null,"retry_after_ms":null`...)
	} else {
		b = append(b, `,"retry_after_seconds":`...)
		b = strconv.AppendFloat(b, decimal.Seconds(wait), 'f', -1, 64)
		b = append(b, `,"retry_after_ms":`...)
		b = strconv.AppendInt(b, int64((wait+time.Millisecond-1)/time.Millisecond), 10)
	}
	b = append(b, `,"limits":[`...)
	b = appendStatuses(b, d)
	b = append(b, ']')
	b = httpedge.AppendViolated(b, d)
	return append(b, "}\n"...)
}

// appendString appends a string as JSON.
func appendString(b []byte, s string) []byte {
	plain := true
	for i := range len(s) {
		c := s[i]
		plain = plain && c >= ' ' && c < utf8.RuneSelf && c != '"' && c != '\\'
	}
	if plain {
		b = append(append(b, '"'), s...)
		return append(b, '"')
	}
	text, err := json.Marshal(s)
	if err != nil {
		text = []byte(`""`) // a string: it does not happen
	}
	return append(b, text...)
}
