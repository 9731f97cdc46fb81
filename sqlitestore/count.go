package sqlitestore

import (
	"database/sql/driver"
	"encoding/json"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/saturate"
)

// A usageKey is the key of a row of the table usage.
type usageKey struct {
	zael.Key
	hour int64
}

// An hourUsage is the usage of a bucket in one hour.
type hourUsage struct {
	events    int64
	amounts   zael.Amounts
	overdrawn map[string]int64 // nil if there is none
}

func (n *hourUsage) add(name string, amount int64) {
	if n.amounts == nil {
		n.amounts = zael.Amounts{}
	}
	n.amounts[name] = saturate.Add(n.amounts[name], amount)
}

// overdraw adds acquires that left a limit overdrawn.
func (n *hourUsage) overdraw(name string, acquires int64) {
	n.overdrawn = saturate.AddAll(n.overdrawn, map[string]int64{name: acquires})
}

// hourOf returns the hour of t, counted from 1970.
func hourOf(t time.Time) int64 {
	s := t.Unix()
	h := s / 3600
	if s%3600 < 0 {
		h--
	}
	return h
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
	var elsewhere *hourUsage
	inRow := len(r.Limits) > 0 && hour >= r.hour
	if inRow {
		if hour > r.hour {
			t.endHour(r)
			r.hour = hour
		}
		r.events += events
	} else {
		elsewhere = t.usageOf(usageKey{r.key, hour})
		elsewhere.events += events
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
		elsewhere.add(ch.Name, ch.Amount)
	}
}

// countOverdrawn adds acquires that left limits overdrawn to the usage of an hour, in the place
// where count adds the rest.
func (t *txn) countOverdrawn(r *row, names []string, hour, acquires int64) {
	for _, name := range names {
		if hour != r.hour || !r.used.Overdraw(r.Limits, name, acquires) {
			t.usageOf(usageKey{r.key, hour}).overdraw(name, acquires)
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
func (t *txn) usageOf(k usageKey) *hourUsage {
	n := t.pendingUsage[k]
	if n == nil {
		n = new(hourUsage)
		t.pendingUsage[k] = n
	}
	return n
}

// endHour moves the usage of a row to pendingUsage.
func (t *txn) endHour(r *row) {
	if r.hour == noHour {
		return
	}
	r.moveUsage(t.usageOf(usageKey{r.key, r.hour}))
	r.hour = noHour
}

// moveUsage adds the usage of a row to n and clears it in the row.
func (r *row) moveUsage(n *hourUsage) {
	n.events += r.events
	r.events = 0
	for i, u := range r.used {
		if u.Counted {
			n.add(r.Limits[i].Name, u.Tokens)
		}
		if u.Overdrawn != 0 {
			n.overdraw(r.Limits[i].Name, u.Overdrawn)
		}
	}
	r.used = r.used[:0]
}

// writeUsage adds n to the table.
func (t *txn) writeUsage(k usageKey, n *hourUsage) error {
	id := int64(0)
	err := t.conn.query("SELECT id, events, amounts, overdrawn FROM usage WHERE entity = ? AND hour = ? AND resource = ?",
		func(v []driver.Value) error {
			id, _ = v[0].(int64)
			return n.merge(v[1], v[2], v[3])
		}, k.Entity, k.hour, k.Resource)
	if err != nil {
		return err
	}
	amounts, err := json.Marshal(n.amounts)
	if err != nil {
		return err
	}
	if n.amounts == nil {
		amounts = []byte("{}")
	}
	var overdrawn driver.Value
	if len(n.overdrawn) > 0 {
		text, err := json.Marshal(n.overdrawn)
		if err != nil {
			return err
		}
		overdrawn = string(text)
	}
	if id != 0 {
		_, err = t.exec("UPDATE usage SET events = ?, amounts = ?, overdrawn = ? WHERE id = ?", n.events, string(amounts), overdrawn, id)
		return err
	}
	t.owed += rowsForNew
	_, err = t.exec("INSERT INTO usage (entity, resource, hour, events, amounts, overdrawn) VALUES (?, ?, ?, ?, ?, ?)",
		k.Entity, k.Resource, k.hour, n.events, string(amounts), overdrawn)
	return err
}

// merge adds the columns events, amounts and overdrawn of a row of the table.
func (n *hourUsage) merge(events, amounts, overdrawn driver.Value) error {
	e, _ := events.(int64)
	n.events += e
	text, _ := amounts.(string)
	var kept zael.Amounts
	if err := json.Unmarshal([]byte(text), &kept); err != nil {
		return err
	}
	for name, amount := range kept {
		n.add(name, amount)
	}
	if text, ok := overdrawn.(string); ok {
		var more map[string]int64
		if err := json.Unmarshal([]byte(text), &more); err != nil {
			return err
		}
		n.overdrawn = saturate.AddAll(n.overdrawn, more)
	}
	return nil
}
