// Package storedlimits is the text in which stores of rows keep the limits of a scope.
package storedlimits

import (
	"encoding/json"
	"time"

	"github.com/zeroae/zael"
)

// A row is a zael.Limit as it is stored: in numbers, or as zael.ParseLimit reads it if it
// is of another kind than a rate, or soft.
type row struct {
	Text     string        `json:"limit,omitempty"`
	Name     string        `json:"name"`
	Capacity int64         `json:"capacity,omitempty"`
	Burst    int64         `json:"burst,omitempty"`
	Amount   int64         `json:"refill_amount,omitempty"`
	Period   time.Duration `json:"refill_period_ns,omitempty"`
}

// None is the text of no limits.
const None = "[]"

// Text returns limits as text.
func Text(limits []zael.Limit) (string, error) {
	all := make([]row, len(limits))
	for i, l := range limits {
		if plain := (zael.Limit{Name: l.Name, Capacity: l.Capacity, Burst: l.Burst, RefillAmount: l.RefillAmount, RefillPeriod: l.RefillPeriod}); l != plain {
			all[i] = row{Name: l.Name, Text: l.String()}
			continue
		}
		all[i] = row{"", l.Name, l.Capacity, l.Burst, l.RefillAmount, l.RefillPeriod}
	}
	text, err := json.Marshal(all)
	return string(text), err
}

// Parse reads what Text has written.
func Parse(text string) ([]zael.Limit, error) {
	var all []row
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return nil, err
	}
	var limits []zael.Limit
	for _, l := range all {
		if l.Text != "" {
			limit, err := zael.ParseLimit(l.Text)
			if err != nil {
				return nil, err
			}
			limits = append(limits, limit)
			continue
		}
		limits = append(limits, zael.Limit{Name: l.Name, Capacity: l.Capacity, Burst: l.Burst, RefillAmount: l.Amount, RefillPeriod: l.Period})
	}
	return limits, nil
}
