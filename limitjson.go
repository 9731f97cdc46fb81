package zael

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/zeroae/zael/bucket"
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

// MarshalJSON returns the status as it is in the JSON of an [*ExceededError], and of what
// is admitted: entity_id, resource, the limit as [Limit.MarshalJSON] has it but for the
// refill, available (null of an unlimited limit), requested, exceeded, overdrawn,
// period_start and resets_at (RFC 3339; null if no period is on), retry_after_seconds and
// full_in_seconds (null for [Never]).
func (s Status) MarshalJSON() ([]byte, error) { return s.AppendJSON(nil), nil }

// AppendJSON appends the JSON of MarshalJSON to b, for servers that write many. With
// capacity enough it allocates only the text of the limit.
func (s Status) AppendJSON(b []byte) []byte {
	b = appendString(append(b, `{"entity_id":`...), s.Entity)
	b = appendString(append(b, `,"resource":`...), s.Resource)
	b = appendString(append(b, `,"limit_name":`...), s.Limit.Name)
	b = appendString(append(b, `,"kind":`...), s.Limit.terms.kind.String())
	b = appendString(append(b, `,"limit":`...), s.Limit.String())
	b = strconv.AppendBool(append(b, `,"soft":`...), s.Limit.terms.soft)
	unlimited := s.Limit.terms.kind == KindUnlimited
	l := s.Limit.withDefaults()
	b = appendInt(append(b, `,"capacity":`...), l.Capacity, unlimited)
	b = appendInt(append(b, `,"burst":`...), l.Burst, unlimited)
	b = appendInt(append(b, `,"available":`...), s.Available, unlimited)
	b = strconv.AppendInt(append(b, `,"requested":`...), s.Requested, 10)
	b = strconv.AppendBool(append(b, `,"exceeded":`...), s.Exceeded)
	b = strconv.AppendBool(append(b, `,"overdrawn":`...), s.Overdrawn)
	b = appendTime(append(b, `,"period_start":`...), s.PeriodStart)
	b = appendTime(append(b, `,"resets_at":`...), s.ResetsAt)
	b = appendSeconds(append(b, `,"retry_after_seconds":`...), s.RetryAfter)
	b = appendSeconds(append(b, `,"full_in_seconds":`...), s.FullAfter)
	return append(b, '}')
}

// A statusJSON is what a Status is read from: the text of the limit decides.
type statusJSON struct {
	Entity      string      `json:"entity_id"`
	Resource    string      `json:"resource"`
	Limit       string      `json:"limit"`
	Available   *int64      `json:"available"`
	Requested   int64       `json:"requested"`
	Exceeded    bool        `json:"exceeded"`
	Overdrawn   bool        `json:"overdrawn"`
	PeriodStart time.Time   `json:"period_start"`
	ResetsAt    time.Time   `json:"resets_at"`
	RetryAfter  jsonSeconds `json:"retry_after_seconds"`
	FullAfter   jsonSeconds `json:"full_in_seconds"`
}

// UnmarshalJSON reads what MarshalJSON writes, such as the answer of a server. It goes by the
// text of the limit. Members that it does not know do not matter. The error is that of
// [ParseLimit], or of JSON in another form.
func (s *Status) UnmarshalJSON(data []byte) error {
	var in statusJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	limit, err := ParseLimit(in.Limit)
	if err != nil {
		return err
	}
	*s = Status{
		Entity: in.Entity, Resource: in.Resource, Limit: limit, Available: bucket.MaxAmount, Requested: in.Requested,
		Exceeded: in.Exceeded, Overdrawn: in.Overdrawn, PeriodStart: in.PeriodStart, ResetsAt: in.ResetsAt,
		RetryAfter: time.Duration(in.RetryAfter), FullAfter: time.Duration(in.FullAfter),
	}
	if in.Available != nil {
		s.Available = *in.Available
	}
	return nil
}

// A jsonSeconds is a duration in seconds, read to the nanosecond; null is Never.
type jsonSeconds time.Duration

// UnmarshalJSON implements json.Unmarshaler.
func (d *jsonSeconds) UnmarshalJSON(data []byte) error {
	text := string(data)
	if text == "null" {
		*d = jsonSeconds(Never)
		return nil
	}
	parsed, err := time.ParseDuration(text + "s")
	if err != nil {
		return invalid("seconds", text, "are not a number of seconds, such as 1.5")
	}
	*d = jsonSeconds(parsed)
	return nil
}

// appendString appends a string as JSON.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			text, err := json.Marshal(s)
			if err != nil {
				text = []byte(`""`) // a string: it does not happen
			}
			return append(b, text...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// appendInt appends a number, or null if there is none.
func appendInt(b []byte, n int64, none bool) []byte {
	if none {
		return append(b, "null"...)
	}
	return strconv.AppendInt(b, n, 10)
}

// appendTime appends a time in RFC 3339, or null for the zero time.
func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(b, "null"...)
	}
	b = append(b, '"')
	b = t.UTC().AppendFormat(b, time.RFC3339Nano)
	return append(b, '"')
}

// appendSeconds appends a duration in seconds, with the decimals that it has, or null for
// Never.
func appendSeconds(b []byte, d time.Duration) []byte {
	if d == Never {
		return append(b, "null"...)
	}
	if d < 0 {
		b, d = append(b, '-'), -d
	}
	b = strconv.AppendInt(b, int64(d/time.Second), 10)
	rest := int64(d % time.Second)
	if rest == 0 {
		return b
	}
	b = append(b, '.')
	for digit := int64(time.Second / 10); rest > 0; digit /= 10 {
		b = append(b, byte('0'+rest/digit))
		rest %= digit
	}
	return b
}
