package zael

import (
	"encoding/json"
	"time"

	"github.com/zeroae/zael/internal/decimal"
)

type exceededJSON struct {
	Error             string   `json:"error"`
	Message           string   `json:"message"`
	RetryAfterSeconds *float64 `json:"retry_after_seconds"` // null: never
	RetryAfterMS      *int64   `json:"retry_after_ms"`
	Limits            []Status `json:"limits"`
}

// MarshalJSON returns a body for an HTTP response, in the form of the Python library
// zae-limiter: error, message, retry_after_seconds, retry_after_ms and limits, each as
// [Status.MarshalJSON] has it. A wait of Never is null.
func (e *ExceededError) MarshalJSON() ([]byte, error) {
	out := exceededJSON{Error: "rate_limit_exceeded", Message: e.Error(), Limits: []Status{}}
	wait := e.RetryAfter()
	out.RetryAfterSeconds = seconds(wait)
	if wait != Never {
		ms := int64(wait / time.Millisecond)
		if wait%time.Millisecond > 0 {
			ms++
		}
		out.RetryAfterMS = &ms
	}
	for s := range e.decision.All() {
		out.Limits = append(out.Limits, s)
	}
	return json.Marshal(out)
}

type disabledJSON struct {
	Error         string `json:"error"`
	Message       string `json:"message"`
	Entity        string `json:"entity_id"`
	Resource      string `json:"resource"`
	ScopeEntity   string `json:"scope_entity_id,omitempty"`
	ScopeResource string `json:"scope_resource,omitempty"`
}

// MarshalJSON returns a body for an HTTP response with status 403: error, message, the
// bucket, and the scope of the switch.
func (e *DisabledError) MarshalJSON() ([]byte, error) {
	return json.Marshal(disabledJSON{"disabled", e.Error(), e.Entity, e.Resource, e.Scope.Entity, e.Scope.Resource})
}

func seconds(d time.Duration) *float64 {
	if d == Never {
		return nil
	}
	s := decimal.Seconds(d)
	return &s
}
