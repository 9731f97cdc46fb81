package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/httpedge"
	"github.com/zeroae/zael/internal/serve"
	"github.com/zeroae/zael/internal/serve/problem"
	"github.com/zeroae/zael/internal/strictjson"
)

// codes are the errors of a Limiter with the code of the answer, and its detail where that must not
// be the error itself, which may name the store. The first that matches counts.
//
//nolint:gochecknoglobals // a constant table
var codes = []struct {
	err    error
	code   problem.Code
	detail string
}{
	{zael.ErrNamespaceDeleted, problem.Disabled, "the namespace of the store is deleted"},
	{zael.ErrDisabled, problem.Disabled, ""},
	{zael.ErrEntityNotFound, problem.NotFound, ""},
	{zael.ErrNamespaceNotFound, problem.NotFound, ""},
	{zael.ErrEntityExists, problem.Exists, ""},
	{zael.ErrNamespaceState, problem.Exists, ""},
	{zael.ErrParentCycle, problem.Exists, ""},
	{zael.ErrKeyUsed, problem.KeyReused, ""},
	{zael.ErrLeaseExpired, problem.LeaseExpired, "the lease was not ended in time: what was taken stands"},
	{zael.ErrLeaseClosed, problem.LeaseEnded, "the lease has ended: it takes no more"},
	{serve.ErrDraining, problem.Draining, ""},
	{zael.ErrClosed, problem.Draining, serve.ErrDraining.Error()},
	{serve.ErrTooManyWaits, problem.Unavailable, ""},
	{zael.ErrContention, problem.Contention, "too many callers write this bucket at once: try again in a second"},
	{zael.ErrUnavailable, problem.Unavailable, "the store does not answer: try again in a second"},
	{context.DeadlineExceeded, problem.Unavailable, "the store did not answer in time: try again in a second"},
	{context.Canceled, problem.Unavailable, "the request was ended"},
	{errors.ErrUnsupported, problem.Unsupported, "the store of this server cannot do that"},
}

// failureOf returns how an error is answered.
func failureOf(err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	if e, ok := errors.AsType[*strictjson.Error](err); ok {
		return &failure{code: problem.Invalid, detail: e.Error(), field: e.Field, reason: e.Reason}
	}
	if v, ok := errors.AsType[*zael.ValidationError](err); ok {
		return validationFailure(v)
	}
	if errors.Is(err, zael.ErrNoLimits) {
		return &failure{code: problem.Invalid, detail: text(err), field: "limits", reason: "are neither in the request nor stored: name them, or store some"}
	}
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &failure{code: problem.TooLarge, detail: fmt.Sprintf("the body has more than %d bytes", tooLarge.Limit)}
	}
	for _, known := range codes {
		if errors.Is(err, known.err) {
			if known.detail == "" {
				return &failure{code: known.code, detail: text(err)}
			}
			return &failure{code: known.code, detail: known.detail}
		}
	}
	return &failure{code: problem.Internal, detail: "the log of the server says why"}
}

// text returns an error without the name of the package.
func text(err error) string { return strings.ReplaceAll(err.Error(), "zael: ", "") }

// fields are the names that fields of the Go API have here.
//
//nolint:gochecknoglobals // a constant table
var fields = map[string]string{
	"Request.Entity": "entity", "Query.Entity": "entity", "Scope.Entity": "entity", "UsageQuery.Entity": "entity", "AuditQuery.Entity": "entity",
	"Request.Resource": "resource", "Query.Resource": "resource", "Scope.Resource": "resource", "UsageQuery.Resource": "resource",
	"Policy.Resource": "resource", "Bucket.Entity": "entity", "Bucket.Resource": "resource",
	"Request.Limits": "limits", "Query.Limits": "limits", "Policy.Limits": "limits",
	"Request.ParentLimits": "parent_limits", "Query.ParentLimits": "parent_limits", "Policy.ParentLimits": "parent_limits",
	"Request.Consume": "consume", "Request.MaxWait": "max_wait", "Request.Also": "also", "amount of": "consume",
	"Entity.ID": "id", "Entity.Name": "name", "Entity.ParentID": "parent_id", "Entity.Metadata": "metadata",
	"UsageQuery.To": "to", "AuditQuery.To": "to", "UsageQuery.Window": "window",
	"amounts": "amounts", "limit": "limit_name", "names": "limit_names", "namespace": "name", "Change": "changes", "prefix": "prefix",
	"AdminOptions.IdempotencyKey": keyHeader, "DetachOptions.IdempotencyKey": keyHeader, "DetachedLease": "lease",
}

// validationFailure returns how an error of validation is answered.
func validationFailure(v *zael.ValidationError) *failure {
	field := v.Field
	if known, ok := fields[field]; ok {
		field = known
	} else if i := strings.LastIndexByte(field, ' '); i > 0 { // of one name, such as "Request.Consume tpm"
		if known, ok := fields[field[:i]]; ok {
			field = known + "." + field[i+1:]
		}
	}
	in := *v
	in.Field = field
	return &failure{code: problem.Invalid, detail: text(&in), field: field, value: v.Value, reason: v.Reason}
}

// A problemBody is the body of every error of the API except a refusal by a limit.
type problemBody struct {
	problem.Details

	Field  string `json:"field,omitempty"`
	Value  any    `json:"value,omitempty"` // a string or a number
	Reason string `json:"reason,omitempty"`

	*disabledBody
}

// A disabledBody says what a switch turns off, and the scope of the switch.
type disabledBody struct {
	Entity        string `json:"entity_id"`
	Resource      string `json:"resource"`
	ScopeEntity   string `json:"scope_entity_id,omitempty"`
	ScopeResource string `json:"scope_resource,omitempty"`
}

// fail answers with an error.
func (c *call) fail(err error) {
	if exceeded, ok := errors.AsType[*zael.ExceededError](err); ok {
		c.refuse(exceeded)
		return
	}
	f := failureOf(err)
	if f.code.Status() >= http.StatusInternalServerError && f.code != problem.Unsupported && !c.clientLeft(err) && c.env.Log != nil {
		if suppressed, ok := c.logRate.Allow(string(f.code), time.Now()); ok {
			c.env.Log.LogAttrs(c.r.Context(), levelOf(f.code), "request failed", append(attributes(c, f, err), slog.Int("not_logged", suppressed))...)
		}
	}
	details := problem.Of(f.code, f.detail)
	answer := problemBody{Details: details, Field: f.field, Reason: f.reason}
	switch f.value.(type) {
	case string, int, int64:
		answer.Value = f.value
	}
	if off, ok := errors.AsType[*zael.DisabledError](err); ok {
		answer.disabledBody = &disabledBody{off.Entity, off.Resource, off.Scope.Entity, off.Scope.Resource}
	}
	body, err := json.Marshal(answer)
	if err != nil {
		body = nil // strings and a number: it does not happen
	}
	if details.Status == http.StatusServiceUnavailable {
		c.w.Header()["Retry-After"] = []string{"1"}
	}
	httpedge.WriteProblem(c.w, details.Status, append(body, '\n'))
}

// refuse answers a request that a limit refuses. It does not use encoding/json for what
// has a fixed form, as refusals are what an attacker asks for.
func (c *call) refuse(err *zael.ExceededError) {
	b := c.buffer()
	defer c.recycle(b)
	d := err.Decision()
	header := c.w.Header()
	if d.Len() > 0 {
		httpedge.SetXRateLimit(header, &d, new([3]string))
	}
	code := problem.Exceeded
	if httpedge.SetRetryAfter(header, err) == "" {
		code = problem.Never
	}
	b.out = appendRefusal(b.out[:0], err, &d, code)
	httpedge.WriteProblem(c.w, http.StatusTooManyRequests, b.out)
}
