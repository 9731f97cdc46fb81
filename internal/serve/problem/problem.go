// Package problem writes the answers of the daemon to requests that it does not do, as
// problem details (RFC 9457).
package problem

import (
	"encoding/json"
	"net/http"

	"github.com/zeroae/zael/internal/httpedge"
)

// A Code is the member "error" of an answer, for programs to go by.
type Code string

// The codes, with the status that each is sent with.
const (
	Invalid         Code = "invalid"             // 400
	Unauthenticated Code = "unauthenticated"     // 401
	Forbidden       Code = "forbidden"           // 403
	Disabled        Code = "disabled"            // 403
	NotFound        Code = "not_found"           // 404
	NoMethod        Code = "method_not_allowed"  // 405
	Exists          Code = "exists"              // 409
	LeaseEnded      Code = "lease_ended"         // 409
	LeaseExpired    Code = "lease_expired"       // 410
	TooLarge        Code = "too_large"           // 413
	KeyReused       Code = "key_reused"          // 422
	Exceeded        Code = "rate_limit_exceeded" // 429
	Never           Code = "never"               // 429, without Retry-After
	Internal        Code = "internal"            // 500
	Unsupported     Code = "unsupported"         // 501
	Contention      Code = "contention"          // 503
	Unavailable     Code = "unavailable"         // 503
	Draining        Code = "draining"            // 503
)

// Status returns the status that goes with a code.
func (c Code) Status() int {
	switch c {
	case Invalid:
		return http.StatusBadRequest
	case Unauthenticated:
		return http.StatusUnauthorized
	case Forbidden, Disabled:
		return http.StatusForbidden
	case NotFound:
		return http.StatusNotFound
	case NoMethod:
		return http.StatusMethodNotAllowed
	case Exists, LeaseEnded:
		return http.StatusConflict
	case LeaseExpired:
		return http.StatusGone
	case TooLarge:
		return http.StatusRequestEntityTooLarge
	case KeyReused:
		return http.StatusUnprocessableEntity
	case Exceeded, Never:
		return http.StatusTooManyRequests
	case Unsupported:
		return http.StatusNotImplemented
	case Contention, Unavailable, Draining:
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}

// Details are the members that every answer has.
type Details struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Error  Code   `json:"error"`
}

// Of returns the details of a code.
func Of(code Code, detail string) Details {
	status := code.Status()
	return Details{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail, Error: code}
}

// Write answers with a problem that has no other members. Of one that passes by itself it
// says when to come back: in a second.
func Write(w http.ResponseWriter, code Code, detail string) {
	body, err := json.Marshal(Of(code, detail))
	if err != nil {
		body = nil // strings and a number: it does not happen
	}
	if code.Status() == http.StatusServiceUnavailable {
		w.Header()["Retry-After"] = []string{"1"}
	}
	httpedge.WriteProblem(w, code.Status(), append(body, '\n'))
}
