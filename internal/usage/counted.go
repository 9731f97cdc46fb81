package usage

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// counted says which changes an item of usage has in it: those from the first
// to the last sequence number, but for what lies in a hole, and perhaps for what
// lies in the blur. Every change of a bucket goes to one item in each length of
// window, so this is all there is to know, whoever counted in whatever order.
type counted struct {
	first, last string // of sequenceDigits
	start       string // state of the bucket before the first; "": there was none
	at          string // and after the last
	holes       []hole // in order
	blur        span   // around all holes that were given up: but for the holes in it, nobody knows what is counted there
}

// A span is what lies between two changes that are counted, by their sequence
// numbers; nothing if it is zero.
type span struct{ after, before string }

func (s span) has(sequence string) bool { return s.after < sequence && sequence < s.before }

// around is the least span with both in it.
func (s span) around(other span) span {
	if s == (span{}) {
		return other
	}
	return span{min(s.after, other.after), max(s.before, other.before)}
}

// A hole is where changes may be missing: after one that is counted and before
// another. Nearly always there are none in it: a bucket that expired and was born
// again leaves one too.
type hole struct {
	span
	hour int64 // of before, since 1970
	// States of the bucket at its ends: a run that begins, or ends, with one closes
	// that side. "" is known to nobody, or no bucket, and closes nothing.
	from, to string
}

const (
	// holesFor is how long holes are kept: a stream has its records for a day, so
	// what could fill one, or lies in the blur, does not come any more.
	holesFor = 48 // hours
	// mostHoles keeps an item of usage small whatever happens.
	mostHoles = 200
)

// gap is where a sequence number lies: before the first (-1), in a hole, or
// after the last (the number of holes). free is false if it is counted, or, in the
// blur, may be.
func (c *counted) gap(sequence string) (gap int, free bool) {
	switch {
	case sequence < c.first:
		return -1, true
	case sequence > c.last:
		return len(c.holes), true
	}
	i := slices.IndexFunc(c.holes, func(h hole) bool { return h.has(sequence) })
	return i, i >= 0
}

// divide divides a chain into the changes of which it is known whether they are
// counted, and those of which it never will be. What counts nothing is known.
func (c *counted) divide(chain []member) (known, doubtful []member) {
	for i := range chain {
		m := &chain[i]
		if _, free := c.gap(m.sequence); free || m.none() || !c.blur.has(m.sequence) {
			known = append(known, *m)
		} else {
			doubtful = append(doubtful, *m)
		}
	}
	return known, doubtful
}

// missing are the first changes of a chain that are not counted and can be
// counted together; rest are those after them. All of them are known.
func (c *counted) missing(chain []member) (run, rest []member) {
	for i := range chain {
		gap, free := c.gap(chain[i].sequence)
		if !free {
			continue
		}
		end := i + 1
		for ; end < len(chain); end++ {
			if next, free := c.gap(chain[end].sequence); !free || next != gap {
				break
			}
		}
		return chain[i:end], chain[end:]
	}
	return nil, nil
}

var (
	errManyHoles = fmt.Errorf("%w: too many changes around it are missing: count those first", ErrUncountable)
	errBlurred   = fmt.Errorf("%w: so many changes around it are missing that it is not known whether this one is counted", ErrUncountable)
)

// with is c and a run that missing gave. Where that makes more than most holes, one at
// the end has the oldest given up (lost is how many), as newer changes must go on.
// One amid what is counted has to wait until others are filled. What lies in a
// hole that is given up is neither counted nor dropped when it comes, but reported,
// and so is all between two such holes.
func (c *counted) with(run []member, most int) (next counted, lost int, err error) {
	first, last := &run[0], &run[len(run)-1]
	next = *c
	next.holes = slices.Clone(c.holes)
	gap, _ := c.gap(first.sequence)
	switch {
	case gap < 0:
		next.holes = slices.Insert(next.holes, 0,
			between(hole{span{last.sequence, c.first}, hourOf(last.created), last.after, c.start})...)
		next.first, next.start = first.sequence, first.before
	case gap == len(c.holes):
		next.holes = append(next.holes,
			between(hole{span{c.last, first.sequence}, hourOf(first.created), c.at, first.before})...)
		next.last, next.at = last.sequence, last.after
	default:
		old := c.holes[gap]
		left, right := old, old
		left.before, left.to = first.sequence, first.before
		right.after, right.from = last.sequence, last.after
		next.holes = slices.Replace(next.holes, gap, gap+1, append(between(left), between(right)...)...)
	}
	next.holes = slices.DeleteFunc(next.holes, func(h hole) bool {
		old := h.hour < hourOf(last.created)-holesFor
		if old {
			next.blur = next.blur.around(h.span)
		}
		return old
	})
	if lost = max(0, len(next.holes)-most); lost > 0 {
		if gap != len(c.holes) {
			return next, 0, errManyHoles
		}
		for _, h := range next.holes[:lost] {
			next.blur = next.blur.around(h.span)
		}
		next.holes = next.holes[lost:]
	}
	return next, lost, nil
}

// between is a hole, or none if nothing is missing in it.
func between(h hole) []hole {
	if h.from == h.to && h.from != "" {
		return nil
	}
	return []hole{h}
}

func hourOf(t time.Time) int64 { return t.Unix() / 3600 }

// holesText is the blur and the holes as an item has them, these with the states
// at their ends: "?3-9 10-12@482000:gC0x:Yz_1 15-20@482001:pQ-2:".
func (c *counted) holesText() string {
	var parts []string
	if c.blur != (span{}) {
		parts = append(parts, "?"+c.blur.String())
	}
	for _, h := range c.holes {
		parts = append(parts, fmt.Sprintf("%s@%d:%s:%s", h.span, h.hour, h.from, h.to))
	}
	return strings.Join(parts, " ")
}

func (s span) String() string { return short(s.after) + "-" + short(s.before) }

func short(sequence string) string { return cmp.Or(strings.TrimLeft(sequence, "0"), "0") }

var errHoles = errors.New("are not holes that this version can read")

func (c *counted) parseHoles(text string) error {
	for part := range strings.FieldsSeq(text) {
		if blur, ok := strings.CutPrefix(part, "?"); ok {
			if c.blur, ok = parseSpan(blur); !ok {
				return fmt.Errorf("%q %w", text, errHoles)
			}
			continue
		}
		var h hole
		numbers, states, ok0 := strings.Cut(part, ":")
		sequences, hour, ok1 := strings.Cut(numbers, "@")
		h.from, h.to, _ = strings.Cut(states, ":")
		var ok2 bool
		var err error
		h.span, ok2 = parseSpan(sequences)
		h.hour, err = strconv.ParseInt(hour, 10, 64)
		if !ok0 || !ok1 || !ok2 || err != nil {
			return fmt.Errorf("%q %w", text, errHoles)
		}
		c.holes = append(c.holes, h)
	}
	return nil
}

func parseSpan(text string) (s span, ok bool) {
	after, before, ok := strings.Cut(text, "-")
	var errs [2]error
	s.after, errs[0] = padded(after)
	s.before, errs[1] = padded(before)
	return s, ok && errors.Join(errs[:]...) == nil
}
