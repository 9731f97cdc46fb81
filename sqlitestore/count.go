package sqlitestore

import (
	"database/sql/driver"
	"encoding/json"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/hourly"
)

// A usageKey is the key of a row of the table usage.
type usageKey struct {
	zael.Key
	hour int64
}

// count adds what charges take and give back, and events, to the usage of an hour:
// in the row, if the bucket exists and the row is not in a later hour; otherwise in
// pendingUsage.
func (t *txn) count(r *row, charges []zael.Charge, hour, events int64) {
	nothing := events == 0
	for j := range charges {
		nothing = nothing && charges[j].Amount == 0
	}
	if nothing {
		return
	}
	var elsewhere *hourly.Usage
	inRow := len(r.Limits) > 0 && hour >= r.hour
	if inRow {
		if hour > r.hour {
			t.endHour(r)
			r.hour = hour
		}
		r.events += events
	} else {
		elsewhere = t.usageOf(usageKey{r.key, hour})
		elsewhere.Events += events
	}
	for j := range charges {
		ch := &charges[j]
		if ch.Definition.Kind == bucket.Slots && ch.Amount < 0 && events >= 0 {
			continue // released: they were used
		}
		if ch.Amount == 0 || inRow && r.used.Count(r.Limits, ch.Name, ch.Amount) {
			continue
		}
		if elsewhere == nil {
			elsewhere = t.usageOf(usageKey{r.key, hour})
		}
		elsewhere.Count(ch.Name, ch.Amount)
	}
}

// countOverdrawn adds acquires that left limits overdrawn to the usage of an hour, in the place
// where count adds the rest.
func (t *txn) countOverdrawn(r *row, names []string, hour, acquires int64) {
	for _, name := range names {
		if hour != r.hour || !r.used.Overdraw(r.Limits, name, acquires) {
			t.usageOf(usageKey{r.key, hour}).Overdraw(name, acquires)
		}
	}
}

// overdrawn returns the limits that a take has left overdrawn.
func overdrawn(charges []zael.Charge, at bucket.Instant) (names []string) {
	for i := range charges {
		if charges[i].Overdraws(at) {
			names = append(names, charges[i].Name)
		}
	}
	return names
}

// usageOf returns the usage of k in pendingUsage.
func (t *txn) usageOf(k usageKey) *hourly.Usage {
	n := t.pendingUsage[k]
	if n == nil {
		n = new(hourly.Usage)
		t.pendingUsage[k] = n
	}
	return n
}

// endHour moves the usage of a row to pendingUsage.
func (t *txn) endHour(r *row) {
	if r.hour == hourly.None {
		return
	}
	r.moveUsage(t.usageOf(usageKey{r.key, r.hour}))
	r.hour = hourly.None
}

// moveUsage adds the usage of a row to n and clears it in the row.
func (r *row) moveUsage(n *hourly.Usage) {
	n.Events += r.events
	r.events = 0
	for i, u := range r.used {
		if u.Counted {
			n.Count(r.Limits[i].Name, u.Tokens)
		}
		if u.Overdrawn != 0 {
			n.Overdraw(r.Limits[i].Name, u.Overdrawn)
		}
	}
	r.used = r.used[:0]
}

// writeUsage adds n to the table.
func (t *txn) writeUsage(k usageKey, n *hourly.Usage) error {
	id := int64(0)
	err := t.conn.query("SELECT id, events, amounts, overdrawn FROM usage WHERE entity = ? AND hour = ? AND resource = ?",
		func(v []driver.Value) error {
			id, _ = v[0].(int64)
			return merge(n, v[1], v[2], v[3])
		}, k.Entity, k.hour, k.Resource)
	if err != nil {
		return err
	}
	amounts, err := json.Marshal(n.Amounts)
	if err != nil {
		return err
	}
	if n.Amounts == nil {
		amounts = []byte("{}")
	}
	var overdrawn driver.Value
	if len(n.Overdrawn) > 0 {
		text, err := json.Marshal(n.Overdrawn)
		if err != nil {
			return err
		}
		overdrawn = string(text)
	}
	if id != 0 {
		_, err = t.exec("UPDATE usage SET events = ?, amounts = ?, overdrawn = ? WHERE id = ?", n.Events, string(amounts), overdrawn, id)
		return err
	}
	t.owed += rowsForNew
	_, err = t.exec("INSERT INTO usage (entity, resource, hour, events, amounts, overdrawn) VALUES (?, ?, ?, ?, ?, ?)",
		k.Entity, k.Resource, k.hour, n.Events, string(amounts), overdrawn)
	return err
}

// merge adds the columns events, amounts and overdrawn of a row of the table to n.
func merge(n *hourly.Usage, events, amounts, overdrawn driver.Value) error {
	e, _ := events.(int64)
	n.Events += e
	text, _ := amounts.(string)
	var kept zael.Amounts
	if err := json.Unmarshal([]byte(text), &kept); err != nil {
		return err
	}
	n.Add(&hourly.Usage{Amounts: kept})
	if text, ok := overdrawn.(string); ok {
		var more map[string]int64
		if err := json.Unmarshal([]byte(text), &more); err != nil {
			return err
		}
		n.Add(&hourly.Usage{Overdrawn: more})
	}
	return nil
}
