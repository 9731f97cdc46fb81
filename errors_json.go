package zael

import (
	"encoding/json"
	"time"

	"github.com/zeroae/zael/internal/decimal"
)

type exceededJSON struct {
	Error             string       `json:"error"`
	Message           string       `json:"message"`
	RetryAfterSeconds *float64     `json:"retry_after_seconds"` // null: never
	RetryAfterMS      *int64       `json:"retry_after_ms"`
	Limits            []statusJSON `json:"limits"`
}

type statusJSON struct {
	Entity            string   `json:"entity_id"`
	Resource          string   `json:"resource"`
	Name              string   `json:"limit_name"`
	Kind              string   `json:"kind"`
	Limit             string   `json:"limit"` // as ParseLimit reads it, without the name
	Soft              bool     `json:"soft"`
	Capacity          *int64   `json:"capacity"`  // null: unlimited
	Burst             *int64   `json:"burst"`     // null: unlimited
	Available         *int64   `json:"available"` // null: unlimited
	Requested         int64    `json:"requested"`
	Exceeded          bool     `json:"exceeded"`
	Overdrawn         bool     `json:"overdrawn,omitempty"`
	RetryAfterSeconds *float64 `json:"retry_after_seconds"`
	PeriodStart       *string  `json:"period_start"` // of a quota or session; null: none is on
	ResetsAt          *string  `json:"resets_at"`
}

// statusJSONOf returns a status as JSON has it.
func statusJSONOf(s *Status) statusJSON {
	out := statusJSON{
		Entity: s.Entity, Resource: s.Resource, Name: s.Limit.Name, Kind: s.Limit.Kind().String(), Limit: s.Limit.text(), Soft: s.Limit.IsSoft(),
		Requested: s.Requested, Exceeded: s.Exceeded, Overdrawn: s.Overdrawn, RetryAfterSeconds: seconds(s.RetryAfter),
		PeriodStart: timeText(s.PeriodStart), ResetsAt: timeText(s.ResetsAt),
	}
	if s.Limit.Kind() != KindUnlimited {
		out.Capacity, out.Burst, out.Available = &s.Limit.Capacity, &s.Limit.Burst, &s.Available
	}
	return out
}

// timeText returns a time for JSON, or nil if it is zero.
func timeText(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	text := t.UTC().Format(time.RFC3339Nano)
	return &text
}

// MarshalJSON returns a body for an HTTP response, in the form of the Python library
// zae-limiter: error, message, retry_after_seconds, retry_after_ms and limits. A wait of
// Never is null.
func (e *ExceededError) MarshalJSON() ([]byte, error) {
	out := exceededJSON{Error: "rate_limit_exceeded", Message: e.Error(), Limits: []statusJSON{}}
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
		out.Limits = append(out.Limits, statusJSONOf(&s))
	}
	return json.Marshal(out)
}

type disabledJSON struct {
	Error         string `json:"error"`
	Message       string `json:"message"`
	Entity        string `json:"entity_id"`
	Resource      string `json:"resource"`
	LevelEntity   string `json:"level_entity_id,omitempty"`
	LevelResource string `json:"level_resource,omitempty"`
}

// MarshalJSON returns a body for an HTTP response with status 403: error, message, the
// bucket, and the scope of the switch.
func (e *DisabledError) MarshalJSON() ([]byte, error) {
	return json.Marshal(disabledJSON{"disabled", e.Error(), e.Entity, e.Resource, e.Level.Entity, e.Level.Resource})
}

func seconds(d time.Duration) *float64 {
	if d == Never {
		return nil
	}
	s := decimal.Seconds(d)
	return &s
}
