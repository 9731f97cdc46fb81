package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/zeroae/zael"
)

// An Error is an answer that says why the server did not do what it was asked. Where package
// zael has a value for the reason, such as zael.ErrEntityNotFound, the error matches it.
type Error struct {
	Status int    // of HTTP
	Code   string // for programs, such as "forbidden"; empty if the answer is not of a zael server
	Detail string // for people

	cause error
}

// Error returns the detail.
func (e *Error) Error() string { return "zael: " + e.Detail }

// Unwrap returns the value of package zael that the error matches, if there is one.
func (e *Error) Unwrap() error { return e.cause }

// A problem is the body of an answer that is not a success.
type problem struct {
	Code   string `json:"error"`
	Detail string `json:"detail"`

	Field  string          `json:"field"` // of invalid
	Value  json.RawMessage `json:"value"` // a string or a number
	Reason string          `json:"reason"`

	Limits []zael.Status `json:"limits"` // of a refusal

	Entity        string `json:"entity_id"` // of disabled
	Resource      string `json:"resource"`
	ScopeEntity   string `json:"scope_entity_id"`
	ScopeResource string `json:"scope_resource"`
}

// causes are the values of package zael by code. Of several, one counts whose text the detail has.
//
//nolint:gochecknoglobals // a constant table
var causes = map[string][]error{
	"not_found":     {zael.ErrEntityNotFound, zael.ErrNamespaceNotFound},
	"exists":        {zael.ErrEntityExists, zael.ErrNamespaceState, zael.ErrParentCycle},
	"key_reused":    {zael.ErrKeyUsed},
	"lease_expired": {zael.ErrLeaseExpired},
	"lease_ended":   {zael.ErrLeaseClosed},
	"contention":    {zael.ErrContention},
	"unsupported":   {errors.ErrUnsupported},
	"disabled":      {zael.ErrNamespaceDeleted},
}

// refused returns the error of an answer that is not a success.
func (c *Client) refused(r *call, resp *http.Response, text []byte) error {
	var p problem
	if mediaType(resp) != "application/problem+json" || json.Unmarshal(text, &p) != nil || p.Code == "" {
		return c.notOurs(r, resp)
	}
	switch p.Code {
	case "invalid":
		if strings.HasPrefix(p.Detail, sentinelText(zael.ErrNoLimits)) {
			return &Error{resp.StatusCode, p.Code, p.Detail, zael.ErrNoLimits}
		}
		return &zael.ValidationError{Field: p.Field, Value: valueOf(p.Value), Reason: p.Reason}
	case "rate_limit_exceeded", "never":
		if len(p.Limits) > 0 {
			return zael.NewExceededError(p.Limits...)
		}
	case "disabled":
		if p.Entity != "" {
			return &zael.DisabledError{Entity: p.Entity, Resource: p.Resource, Scope: zael.Scope{Entity: p.ScopeEntity, Resource: p.ScopeResource}}
		}
	case "unavailable", "draining":
		cause := &Error{Status: resp.StatusCode, Code: p.Code, Detail: p.Detail}
		return &zael.UnavailableError{Cause: cause, Store: c.base, Entity: r.entity, Resource: r.resource}
	}
	e := &Error{Status: resp.StatusCode, Code: p.Code, Detail: p.Detail}
	for _, cause := range causes[p.Code] {
		if len(causes[p.Code]) == 1 || strings.Contains(p.Detail, sentinelText(cause)) {
			e.cause = cause
			break
		}
	}
	return e
}

// valueOf returns the value of a member, nil if there is none.
func valueOf(text json.RawMessage) any {
	if len(text) == 0 {
		return nil
	}
	var s string
	if json.Unmarshal(text, &s) == nil {
		return s
	}
	return json.Number(text) // with all its digits
}

// sentinelText returns an error as the server writes it.
func sentinelText(err error) string { return strings.TrimPrefix(err.Error(), "zael: ") }

// notOurs returns the error of an answer that no zael server has given, but perhaps a proxy on the
// way to one.
func (c *Client) notOurs(r *call, resp *http.Response) error {
	switch resp.StatusCode {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		cause := &Error{Status: resp.StatusCode, Detail: "something on the way answered " + resp.Status}
		return &zael.UnavailableError{Cause: cause, Store: c.base, Entity: r.entity, Resource: r.resource}
	}
	if to := resp.Header.Get("Location"); resp.StatusCode >= 300 && resp.StatusCode <= 399 && to != "" {
		return &Error{Status: resp.StatusCode, Detail: fmt.Sprintf("%s redirects to %s, which is not followed: give that address if it is the server's", c.base, redacted(to))}
	}
	return c.foreign(resp, "it is "+resp.Status)
}
