package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/zeroae/zael"
)

// A Request asks for tokens of the bucket of an entity and a resource. Its limits are those of
// Policy, of Limits, or, without both, those that are stored.
type Request struct {
	Entity   string
	Resource string // may be empty with a Policy, which has one
	Policy   string // name of a policy of the server's configuration

	// Limits and ParentLimits need a token that may set limits, unless the server asks for no
	// token: whoever sends limits decides what it may take.
	Limits, ParentLimits []zael.Limit
	Stored               bool // beside Limits: they hold only where none are stored

	Consume zael.Amounts  // see zael.Request.Consume: a limit that is not named takes 1, slots 0
	Cascade bool          // takes from the entity's parent too
	MaxWait time.Duration // waits in line up to this long; 0 does not wait

	FailureMode zael.FailureMode // like Limits, for a token that may set limits

	// IdempotencyKey makes the take once: 1 to 128 printable ASCII characters. A repetition within
	// ten minutes has the first answer, on any server of the store. With a key, the Client itself
	// repeats a request whose answer was lost; without one it never does, as that could take twice.
	IdempotencyKey string

	// Also are further buckets, at most 15: all are taken from, or none. See zael.Request.Also.
	Also []Part
}

// A Part is one more bucket that a request takes from. The fields are those of [Request].
type Part struct {
	Entity   string // empty: the request's
	Resource string
	Policy   string
	Limits   []zael.Limit
	Consume  zael.Amounts
}

// An Admission tells of a request that was admitted.
type Admission struct {
	Entity   string
	Resource string
	Degraded bool          // nothing was charged, as the store is unavailable and the failure mode open; there are no Limits
	Bypassed bool          // a switch makes limits not bind: nothing was charged
	Waited   time.Duration // in line
	Limits   []zael.Status // how each limit stands after it
}

// An acquireBody is the body of an acquire.
type acquireBody struct {
	Entity       string       `json:"entity"`
	Resource     string       `json:"resource,omitempty"`
	Policy       string       `json:"policy,omitempty"`
	Limits       []string     `json:"limits,omitempty"`
	ParentLimits []string     `json:"parent_limits,omitempty"`
	Stored       bool         `json:"stored,omitempty"`
	Consume      zael.Amounts `json:"consume,omitempty"`
	Cascade      bool         `json:"cascade,omitempty"`
	MaxWait      string       `json:"max_wait,omitempty"`
	FailureMode  string       `json:"failure_mode,omitempty"`
	Lease        bool         `json:"lease"`
	Also         []partBody   `json:"also,omitempty"`
}

type partBody struct {
	Entity   string       `json:"entity,omitempty"`
	Resource string       `json:"resource,omitempty"`
	Policy   string       `json:"policy,omitempty"`
	Limits   []string     `json:"limits,omitempty"`
	Consume  zael.Amounts `json:"consume,omitempty"`
}

// An admittedBody is the answer to an acquire that is admitted.
type admittedBody struct {
	Admitted bool          `json:"admitted"`
	Degraded bool          `json:"degraded"`
	Bypassed bool          `json:"bypassed"`
	Entity   string        `json:"entity_id"`
	Resource string        `json:"resource"`
	Waited   seconds       `json:"waited_seconds"`
	Lease    *string       `json:"lease"`
	Limits   []zael.Status `json:"limits"`
}

func (r *Request) body(lease bool) *acquireBody {
	b := &acquireBody{
		Entity: r.Entity, Resource: r.Resource, Policy: r.Policy, Limits: texts(r.Limits), ParentLimits: texts(r.ParentLimits),
		Stored: r.Stored, Consume: r.Consume, Cascade: r.Cascade, Lease: lease,
	}
	if r.MaxWait != 0 {
		b.MaxWait = r.MaxWait.String()
	}
	if r.FailureMode != 0 {
		b.FailureMode = r.FailureMode.String()
	}
	for i := range r.Also {
		p := &r.Also[i]
		b.Also = append(b.Also, partBody{p.Entity, p.Resource, p.Policy, texts(p.Limits), p.Consume})
	}
	return b
}

// texts returns limits as the API has them.
func texts(limits []zael.Limit) []string {
	var all []string
	for i := range limits {
		all = append(all, limits[i].String())
	}
	return all
}

// check returns an error for what JSON cannot say: a list of limits that is empty is not one that
// is missing.
func (r *Request) check() error {
	empty := ""
	switch {
	case r.Limits != nil && len(r.Limits) == 0:
		empty = "limits"
	case r.ParentLimits != nil && len(r.ParentLimits) == 0:
		empty = "parent_limits"
	}
	for i := range r.Also {
		if r.Also[i].Limits != nil && len(r.Also[i].Limits) == 0 {
			empty = fmt.Sprintf("also[%d].limits", i)
		}
	}
	if empty != "" {
		return &zael.ValidationError{Field: empty, Reason: "is empty: name a limit, or leave it nil for stored limits"}
	}
	return nil
}

// Allow takes what a request asks for, from all its limits or from none, without a lease: what
// it takes stays taken. Slots need a lease.
//
// A refusal is a [*zael.ExceededError] or a [*zael.DisabledError]. Others are a
// [*zael.ValidationError], whose Field is a member of the JSON; zael.ErrNoLimits,
// zael.ErrKeyUsed, zael.ErrContention, an [*Error] such as of a token that may not do this; and a
// [*zael.UnavailableError] if the server or its store does not answer. After that last one, a
// request without an IdempotencyKey may have taken.
func (c *Client) Allow(ctx context.Context, req Request) (Admission, error) {
	_, admission, err := c.acquire(ctx, &req, false)
	return admission, err
}

// Acquire takes as [Client.Allow] does, and returns a lease that settles it to what was really
// used, or gives it back. Errors are those of Allow.
func (c *Client) Acquire(ctx context.Context, req Request) (*Lease, error) {
	text, admission, err := c.acquire(ctx, &req, true)
	if err != nil {
		return nil, err
	}
	return &Lease{client: c, text: text, admission: admission, stored: req.Stored || len(req.Limits) == 0 && req.Policy == ""}, nil
}

func (c *Client) acquire(ctx context.Context, req *Request, lease bool) (text string, a Admission, err error) {
	if err := req.check(); err != nil {
		return "", a, err
	}
	var out admittedBody
	err = c.do(ctx, &call{
		method: http.MethodPost, path: "/v1/acquire", body: req.body(lease), key: req.IdempotencyKey, repeats: req.IdempotencyKey != "",
		wait: max(0, req.MaxWait), entity: req.Entity, resource: req.Resource,
	}, &out)
	if err != nil {
		return "", a, err
	}
	if !out.Admitted || lease && out.Lease == nil { // what is not said is not admitted
		return "", a, &Error{Status: http.StatusOK, Detail: "the answer of " + c.base + " does not say that the request is admitted"}
	}
	if lease {
		text = *out.Lease
	}
	return text, Admission{
		Entity: out.Entity, Resource: out.Resource, Degraded: out.Degraded, Bypassed: out.Bypassed,
		Waited: time.Duration(out.Waited), Limits: out.Limits,
	}, nil
}

// Do acquires, calls f with the lease, and commits it. What f recorded with Settle is committed even
// if f then returns an error or panics. If f fails without recording anything, everything is given
// back. Slots are renewed meanwhile; if they are lost all the same, the context of f ends with the
// cause [ErrSlotsLost]. Do returns the error of f as it is, and a [*zael.CommitError] if the commit
// fails. f may end the lease itself.
func (c *Client) Do(ctx context.Context, req Request, f func(context.Context, *Lease) error) error {
	if f == nil {
		return &zael.ValidationError{Field: "f", Reason: "is nil: pass the function to call, or use Allow"}
	}
	lease, err := c.Acquire(ctx, req)
	if err != nil {
		return err
	}
	defer func() { _ = lease.fail(ctx) }() // after a panic
	if err := lease.during(ctx, f); err != nil {
		if failed := lease.fail(ctx); failed != nil {
			return errors.Join(err, &zael.CommitError{Cause: failed})
		}
		return err
	}
	if err := lease.Commit(ctx); err != nil && !errors.Is(err, zael.ErrLeaseClosed) {
		return &zael.CommitError{Cause: err}
	}
	return nil
}

// during calls f while it keeps the slots of the lease.
func (l *Lease) during(ctx context.Context, f func(context.Context, *Lease) error) error {
	if l.hold() == 0 {
		return f(ctx, l)
	}
	within, stop := context.WithCancelCause(ctx)
	var keeper sync.WaitGroup
	keeper.Go(func() {
		if err := l.Keep(within); err != nil {
			stop(err)
		}
	})
	defer keeper.Wait()
	defer stop(nil)
	return f(within, l)
}
