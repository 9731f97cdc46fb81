package redisstore

import (
	"fmt"
	"strconv"
	"time"

	"github.com/zeroae/zael/bucket"
)

// dayForm is how days are written in names of keys.
const dayForm = "2006-01-02"

// usage is what a write counts. The zero usage is nothing.
type usage struct {
	keys   []string // the hash of the day, and the set of the entity's days
	counts []count
	keep   int64 // for how many ms
}

type count struct {
	field string
	n     int64
}

//nolint:gochecknoglobals // a constant
var nothing usage

// usageOf returns what a part counts: nothing, if usage is not counted.
func (s *Store) usageOf(p *part) *usage {
	if !s.config.Usage {
		return &nothing
	}
	u := new(usage)
	at := p.at.Time()
	field := fmt.Sprintf("%02d|%s", at.Hour(), escape(p.key.Resource))
	if p.events != 0 {
		u.counts = append(u.counts, count{field, p.events})
	}
	for i := range p.charges {
		c := &p.charges[i]
		if c.Amount == 0 || c.Definition.Kind == bucket.Slots && c.Amount < 0 && p.events >= 0 { // slots that are released were used
			continue
		}
		u.counts = append(u.counts, count{field + "|" + c.Name, c.Amount})
	}
	for _, c := range p.overdrew() {
		u.counts = append(u.counts, count{field + "|" + overdrawnMark + c.Name, c.N})
	}
	u.keys = []string{s.keys.usage(p.key.Entity) + at.Format(dayForm), s.keys.days(p.key.Entity)}
	u.keep = int64((s.config.Retention + 24*time.Hour) / time.Millisecond)
	return u
}

// count adds what a part counts to a write.
func (s *Store) count(w *writeScript, p *part) {
	u := s.usageOf(p)
	if len(u.counts) == 0 {
		return
	}
	words := []string{w.key(u.keys[1]), strconv.FormatInt(u.keep, 10)}
	for _, c := range u.counts {
		words = append(words, c.field, strconv.FormatInt(c.n, 10))
	}
	w.command("COUNT", w.key(u.keys[0]), words...)
}
