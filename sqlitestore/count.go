package sqlitestore

import (
	"database/sql/driver"
	"encoding/json"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/saturate"
)

// A tallyKey names a row of the table usage.
type tallyKey struct {
	zael.Key
	hour int64
}

// A tally is usage of one hour.
type tally struct {
	events  int64
	amounts zael.Amounts
}

func (n *tally) add(name string, amount int64) {
	if n.amounts == nil {
		n.amounts = zael.Amounts{}
	}
	n.amounts[name] = saturate.Add(n.amounts[name], amount)
}

func hourOf(t time.Time) int64 {
	s := t.Unix()
	h := s / 3600
	if s%3600 < 0 {
		h--
	}
	return h
}

// count adds what charges take and give, and events, to the usage of an hour:
// in the row if it is there and the hour is not over, else in a tally.
func (t *txn) count(r *row, charges []zael.Charge, hour, events int64) {
	nothing := events == 0
	for j := range charges {
		nothing = nothing && charges[j].Amount == 0
	}
	if nothing {
		return
	}
	var aside *tally
	inRow := len(r.Limits) > 0 && hour >= r.hour
	if inRow {
		if hour > r.hour {
			t.settle(r)
			r.hour = hour
		}
		r.events += events
	} else {
		aside = t.tally(tallyKey{r.key, hour})
		aside.events += events
	}
	for j := range charges {
		ch := &charges[j]
		if ch.Amount == 0 || inRow && r.count(ch.Name, ch.Amount) {
			continue
		}
		if aside == nil {
			aside = t.tally(tallyKey{r.key, hour})
		}
		aside.add(ch.Name, ch.Amount)
	}
}

func (t *txn) tally(k tallyKey) *tally {
	n := t.tallies[k]
	if n == nil {
		n = new(tally)
		t.tallies[k] = n
	}
	return n
}

// settle moves a row's usage to the tallies.
func (t *txn) settle(r *row) {
	if r.hour == noHour {
		return
	}
	r.drain(t.tally(tallyKey{r.key, r.hour}))
	r.hour = noHour
}

// drain adds a row's usage to n and clears it.
func (r *row) drain(n *tally) {
	n.events += r.events
	r.events = 0
	for i, u := range r.used {
		if u.counted {
			n.add(r.Limits[i].Name, u.tokens)
		}
	}
	r.used = r.used[:0]
}

// book adds a tally to the table.
func (t *txn) book(k tallyKey, n *tally) error {
	id := int64(0)
	err := t.conn.query("SELECT id, events, amounts FROM usage WHERE entity = ? AND hour = ? AND resource = ?",
		func(v []driver.Value) error {
			id, _ = v[0].(int64)
			return n.merge(v[1], v[2])
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
	if id != 0 {
		_, err = t.exec("UPDATE usage SET events = ?, amounts = ? WHERE id = ?", n.events, string(amounts), id)
		return err
	}
	t.owed += rowsForNew
	_, err = t.exec("INSERT INTO usage (entity, resource, hour, events, amounts) VALUES (?, ?, ?, ?, ?)",
		k.Entity, k.Resource, k.hour, n.events, string(amounts))
	return err
}

// merge adds the columns events and amounts of the table.
func (n *tally) merge(events, amounts driver.Value) error {
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
	return nil
}
