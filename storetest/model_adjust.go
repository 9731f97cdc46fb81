package storetest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// adjust works out every state that may stand after an adjust at now that
// counted by at. A give counts by the latest instant seen for the bucket, which
// a store may take to include those of reads and refusals.
func (m *model) adjust(now, at bucket.Instant, debits []zael.Debit) {
	for _, d := range debits {
		b := m.bucket(d.Key)
		m.begin(b)
		least := max(now, b.latest()[0])
		instants := []bucket.Instant{at, now}
		for _, latest := range b.latest() {
			instants = append(instants, max(now, latest))
		}
		for _, c := range d.Charges {
			before := b.options[c.Name]
			if before == nil {
				before = []option{{b.limits[c.Name], false}}
			}
			after := []option{}
			for _, i := range instants {
				for _, o := range before {
					if c.Amount >= 0 || i >= least {
						after = append(after, m.adjusted(b, o, c, i)...)
					}
				}
			}
			b.options[c.Name] = distinct(after)
		}
		b.see(max(now, at), true)
	}
}

// adjusted is what may stand after a charge of a limit, which may be forgotten
// if it is full.
func (m *model) adjusted(b *modelBucket, o option, c zael.Charge, at bucket.Instant) []option {
	if c.Amount < 0 && o.moved {
		return []option{o} // no receipt is of a new generation
	}
	from := []option{o}
	var after []option
	if c.Amount >= 0 && o.Full(m.latest) {
		from = append(from, option{})
		if c.Amount == 0 { // nothing needs to be written
			after = from
		}
	}
	for _, o := range from {
		r := bucket.Record{Latest: b.latest()[0]}
		if c.Amount < 0 {
			r.Latest = at
		}
		if !o.Absent() {
			r.Limits = []bucket.LimitState{{Name: c.Name, State: o.State}}
		}
		charges := []zael.Charge{c}
		if _, err := r.Adjust(charges, at, 0); err == nil {
			next := charges[0].State
			after = append(after, option{next, o.moved || o.Absent() && !next.Absent() || next.Generation != o.Generation})
		}
	}
	return after
}

func distinct(list []option) []option {
	var out []option
	for _, o := range list {
		if !slices.Contains(out, o) {
			out = append(out, o)
		}
	}
	return out
}

// settle compares what was read of a bucket with what may be, and keeps what is.
func (m *model) settle(at bucket.Instant, got zael.Bucket) error {
	b := m.bucket(got.Key)
	b.see(at, false)
	for name, old := range b.limits {
		if b.options[name] == nil {
			b.options[name] = []option{{old, false}}
		}
	}
	for _, l := range got.Limits {
		if b.options[l.Name] == nil {
			b.options[l.Name] = []option{{}}
		}
	}
	for name, options := range b.options {
		read, old := limitOf(got, name), b.limits[name]
		i := slices.IndexFunc(options, func(o option) bool { return o.matches(read, old, at) })
		if i < 0 {
			var texts strings.Builder
			for _, o := range options {
				texts.WriteString("; " + stateText(o.State, at))
			}
			return fmt.Errorf("%q of %s read: got %s in generation %d, before it was %d, want%s",
				name, keyText(got.Key), stateText(read, at), read.Generation, old.Generation, texts.String())
		}
		switch is := options[i].State; {
		case !read.Absent() && is.Absent():
			b.limits[name] = read
		case !read.Absent():
			if read.Full(at) && (options[i].moved || read.Mark > is.Mark) {
				is.Mark = read.Mark // written when it was full, by which instant is open
			}
			is.Generation = read.Generation
			b.limits[name] = is
		case is.Absent():
			delete(b.limits, name)
		default:
			b.limits[name] = is // forgotten, and not by the model
		}
	}
	clear(b.options)
	return nil
}

// matches reports whether a limit that was read is that of an option. A full one may
// be of any generation, or absent.
func (o option) matches(read, old bucket.State, at bucket.Instant) bool {
	switch {
	case read.Absent():
		return o.Full(at)
	case o.Absent():
		return read.Full(at)
	}
	return sameState(read, o.State, at) && (read.Full(at) || o.generation(read, old))
}
