package zael

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/zeroae/zael/internal/decimal"
)

// A limitJSON is a limit as JSON. The text decides; the rest is for those who read it.
type limitJSON struct {
	Name     string `json:"limit_name"`
	Kind     string `json:"kind"`
	Limit    string `json:"limit"`
	Soft     bool   `json:"soft"`
	Capacity *int64 `json:"capacity"`
	Burst    *int64 `json:"burst"` // the amount of a quota, the number of slots; 0 of block, null of unlimited
}

// A refillJSON is the refill of a rate.
type refillJSON struct {
	Amount int64   `json:"refill_amount"`
	Period float64 `json:"refill_period_seconds"`
}

// numbers returns capacity and burst: 0 of a limit that blocks, nil of an unlimited one.
func (l Limit) numbers() (capacity, burst *int64) {
	if l.terms.kind == KindUnlimited {
		return nil, nil
	}
	l = l.withDefaults()
	return &l.Capacity, &l.Burst
}

func (l Limit) json() limitJSON {
	capacity, burst := l.numbers()
	return limitJSON{l.Name, l.terms.kind.String(), l.String(), l.terms.soft, capacity, burst}
}

// MarshalJSON returns the limit with limit_name, kind, limit (the text that [ParseLimit]
// reads), soft, capacity and burst, and of a rate refill_amount and refill_period_seconds.
// The burst of a quota is its amount, of slots their number; that of block is 0, of
// unlimited null.
func (l Limit) MarshalJSON() ([]byte, error) {
	if l.terms.kind != KindRate {
		return json.Marshal(l.json())
	}
	return json.Marshal(struct {
		limitJSON
		refillJSON
	}{l.json(), refillJSON{l.RefillAmount, decimal.Seconds(l.RefillPeriod)}})
}

// UnmarshalJSON reads what MarshalJSON writes, or the text alone. It goes by the text; the
// error is that of [ParseLimit], or says that there is no text.
func (l *Limit) UnmarshalJSON(data []byte) error {
	var text string
	if bytes.HasPrefix(data, []byte("{")) {
		var object limitJSON
		if err := json.Unmarshal(data, &object); err != nil {
			return err
		}
		if object.Limit == "" {
			return invalid("Limit", string(data), `has no "limit": write it like {"limit": "rpm=100/min"}, or "rpm=100/min" alone`)
		}
		text = object.Limit
	} else if err := json.Unmarshal(data, &text); err != nil {
		return fmt.Errorf("a limit is neither an object nor text: %w", err)
	}
	parsed, err := ParseLimit(text)
	if err != nil {
		return err
	}
	*l = parsed
	return nil
}

// A statusJSON is a status as JSON, of admitted and refused requests alike.
type statusJSON struct {
	Entity   string `json:"entity_id"`
	Resource string `json:"resource"`
	limitJSON
	Available         *int64   `json:"available"` // null: unlimited
	Requested         int64    `json:"requested"`
	Exceeded          bool     `json:"exceeded"`
	Overdrawn         bool     `json:"overdrawn"`
	PeriodStart       *string  `json:"period_start"` // null: no period is on
	ResetsAt          *string  `json:"resets_at"`
	RetryAfterSeconds *float64 `json:"retry_after_seconds"` // null: never
	FullInSeconds     *float64 `json:"full_in_seconds"`     // null: never
}

// MarshalJSON returns the status as it is in the JSON of an [*ExceededError], and of what
// is admitted: entity_id, resource, the limit as [Limit.MarshalJSON] has it but for the
// refill, available (null of an unlimited limit), requested, exceeded, overdrawn,
// period_start and resets_at (RFC 3339; null if no period is on), retry_after_seconds and
// full_in_seconds (null for [Never]).
func (s Status) MarshalJSON() ([]byte, error) {
	w := statusJSON{
		Entity: s.Entity, Resource: s.Resource, limitJSON: s.Limit.json(),
		Requested: s.Requested, Exceeded: s.Exceeded, Overdrawn: s.Overdrawn,
		PeriodStart: timeJSON(s.PeriodStart), ResetsAt: timeJSON(s.ResetsAt), RetryAfterSeconds: seconds(s.RetryAfter),
		FullInSeconds: seconds(s.FullAfter),
	}
	if s.Limit.terms.kind != KindUnlimited {
		w.Available = &s.Available
	}
	return json.Marshal(w)
}

// timeJSON returns a time in RFC 3339, or nil for the zero time.
func timeJSON(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	text := t.UTC().Format(time.RFC3339Nano)
	return &text
}
