// Package httpedge has what HTTP responses of limits share: problem details, and headers
// that tell what is left.
package httpedge

import (
	"encoding/json"
	"net/http"

	"github.com/zeroae/zael"
)

// QuotaExceeded is the type of the problem of a refusal, of
// draft-ietf-httpapi-ratelimit-headers.
const QuotaExceeded = "https://iana.org/assignments/http-problem-types#quota-exceeded"

// A Code says what is wrong, in the member error of a problem. Programs go by it.
type Code string

// The codes. Each belongs to one status.
const (
	Invalid         Code = "invalid"             // 400: the request is not valid; field and reason say where and why
	Unauthenticated Code = "unauthenticated"     // 401: no token, or one that is not known
	Forbidden       Code = "forbidden"           // 403: the token may not do this
	Disabled        Code = "disabled"            // 403: a switch turns the entity or the resource off
	NotFound        Code = "not_found"           // 404: no such entity, namespace or path
	NoMethod        Code = "method_not_allowed"  // 405
	Exists          Code = "exists"              // 409: an entity exists already, or is in another state
	LeaseEnded      Code = "lease_ended"         // 409: the lease was ended, and takes no more
	LeaseExpired    Code = "lease_expired"       // 410: the lease was not ended in time; what was taken stands
	TooLarge        Code = "too_large"           // 413: the body has too many bytes
	KeyReused       Code = "key_reused"          // 422: the idempotency key belongs to another request
	Exceeded        Code = "rate_limit_exceeded" // 429
	Never           Code = "never"               // 429 without Retry-After: no wait helps
	Internal        Code = "internal"            // 500
	Unsupported     Code = "unsupported"         // 501: the store lacks the role
	Contention      Code = "contention"          // 503: too many write one bucket, or wait
	Unavailable     Code = "unavailable"         // 503: the store cannot answer
	Draining        Code = "draining"            // 503: the server is about to end
)

type codeText struct {
	status int
	title  string
}

//nolint:gochecknoglobals // a constant table
var codes = map[Code]codeText{
	Invalid:         {http.StatusBadRequest, "The request is not valid"},
	Unauthenticated: {http.StatusUnauthorized, "The request is not authenticated"},
	Forbidden:       {http.StatusForbidden, "The token does not allow this"},
	Disabled:        {http.StatusForbidden, "Access is disabled"},
	NotFound:        {http.StatusNotFound, "There is no such thing"},
	NoMethod:        {http.StatusMethodNotAllowed, "The method does not go with the path"},
	Exists:          {http.StatusConflict, "It exists already, or is in another state"},
	LeaseEnded:      {http.StatusConflict, "The lease was ended before"},
	LeaseExpired:    {http.StatusGone, "The lease has expired"},
	TooLarge:        {http.StatusRequestEntityTooLarge, "The body is too large"},
	KeyReused:       {http.StatusUnprocessableEntity, "The idempotency key was used for another request"},
	Exceeded:        {http.StatusTooManyRequests, "Too many requests"},
	Never:           {http.StatusTooManyRequests, "Too many requests"},
	Internal:        {http.StatusInternalServerError, "The server failed"},
	Unsupported:     {http.StatusNotImplemented, "The store does not support this"},
	Contention:      {http.StatusServiceUnavailable, "Too many callers at once"},
	Unavailable:     {http.StatusServiceUnavailable, "The store does not answer"},
	Draining:        {http.StatusServiceUnavailable, "The server is about to end"},
}

// Status returns the HTTP status of a code, 500 of an unknown one.
func (c Code) Status() int {
	if t, ok := codes[c]; ok {
		return t.status
	}
	return http.StatusInternalServerError
}

// Title returns the title of a problem with the code.
func (c Code) Title() string { return codes[c].title }

// A Problem is a body of problem details (RFC 9457).
type Problem struct {
	Type   string `json:"type,omitempty"` // empty: about:blank
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	Code   Code   `json:"error,omitempty"`
	Field  string `json:"field,omitempty"`  // of Invalid: where
	Reason string `json:"reason,omitempty"` // of Invalid: what is wrong and what to do
}

// New returns the problem of a code.
func New(code Code, detail string) Problem {
	return Problem{Title: code.Title(), Status: code.Status(), Code: code, Detail: detail}
}

// Write answers with the problem. If its status is 503, Retry-After is 1.
func (p Problem) Write(w http.ResponseWriter) {
	body, err := json.Marshal(p)
	if err != nil {
		body = nil // strings and a number: it does not happen
	}
	if p.Status == http.StatusServiceUnavailable {
		w.Header()["Retry-After"] = []string{"1"}
	}
	WriteProblem(w, p.Status, append(body, '\n'))
}

// WriteProblem answers with a body of problem details.
func WriteProblem(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h["Content-Type"] = []string{"application/problem+json"}
	h["Cache-Control"] = []string{"no-store"}
	h["X-Content-Type-Options"] = []string{"nosniff"}
	delete(h, "Content-Length")
	delete(h, "Content-Encoding")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may have left
}

// SetRetryAfter sets Retry-After, unless no wait helps, and returns its value.
func SetRetryAfter(to http.Header, err *zael.ExceededError) (value string) {
	value, ok := err.RetryAfterHeader()
	if ok {
		to["Retry-After"] = []string{value}
	}
	return value
}

// AppendViolated appends the member "violated-policies" of the problem of a refusal, with
// a comma before it, or nothing if no limit refused. Names of limits need no escapes.
func AppendViolated(body []byte, d *zael.Decision) []byte {
	separator := `,"violated-policies":["`
	for s := range d.All() {
		if !s.Exceeded {
			continue
		}
		body = append(body, separator...)
		body = append(body, s.Limit.Name...)
		separator = `","`
	}
	if separator == `","` {
		body = append(body, `"]`...)
	}
	return body
}
