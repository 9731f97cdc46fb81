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

// A Problem is a body of problem details (RFC 9457) whose type is about:blank.
type Problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
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
