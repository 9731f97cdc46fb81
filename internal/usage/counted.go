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
// to the last sequence number, but for what lies in a hole. Every change of a
// bucket goes to one item in each length of window, so this is all there is to
// know, whoever counted in whatever order.
type counted struct {
	first, last string // of sequenceDigits
	start       string // state of the bucket before the first; "": there was none
	at          string // and after the last
	holes       []hole // in order
}

// A hole is where changes may be missing: after one that is counted and before
// another. Nearly always there are none in it: a bucket that expired and was born
// again leaves one too.
type hole struct {
	after, before string // sequence numbers of changes that are counted
	hour          int64  // of before, since 1970
	// States of the bucket at its ends: a run that begins, or ends, with one closes
	// that side. "" is known to nobody, or no bucket, and closes nothing.
	from, to string
}

const (
	// holesFor is how long holes are kept: a stream has its records for a day.
	holesFor = 48 // hours
	// mostHoles keeps an item of usage small whatever happens.
	mostHoles = 200
)

// gap is where a sequence number lies: before the first (-1), in a hole, or
// after the last (the number of holes). free is false if it is counted.
func (c *counted) gap(sequence string) (gap int, free bool) {
	switch {
	case sequence < c.first:
		return -1, true
	case sequence > c.last:
		return len(c.holes), true
	}
	i := slices.IndexFunc(c.holes, func(h hole) bool { return h.after < sequence && sequence < h.before })
	return i, i >= 0
}

// missing are the first changes of a chain that are not counted and can be
// counted together; rest are those after them.
func (c *counted) missing(chain []change) (run, rest []change) {
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

var errManyHoles = fmt.Errorf("%w: too many changes around it are missing: count those first", ErrUncountable)

// with is c and a run that missing gave. Where that makes too many holes, one at
// the end has the oldest given up (lost is how many), as newer changes must go on.
// One amid what is counted has to wait until others are filled: a hole that is
// given up counts as filled.
func (c *counted) with(run []change) (next counted, lost int, err error) {
	first, last := &run[0], &run[len(run)-1]
	next = *c
	next.holes = slices.Clone(c.holes)
	gap, _ := c.gap(first.sequence)
	switch {
	case gap < 0:
		next.holes = slices.Insert(next.holes, 0,
			between(hole{after: last.sequence, before: c.first, hour: hourOf(last.created), from: last.after, to: c.start})...)
		next.first, next.start = first.sequence, first.before
	case gap == len(c.holes):
		next.holes = append(next.holes,
			between(hole{after: c.last, before: first.sequence, hour: hourOf(first.created), from: c.at, to: first.before})...)
		next.last, next.at = last.sequence, last.after
	default:
		old := c.holes[gap]
		left, right := old, old
		left.before, left.to = first.sequence, first.before
		right.after, right.from = last.sequence, last.after
		next.holes = slices.Replace(next.holes, gap, gap+1, append(between(left), between(right)...)...)
	}
	next.holes = slices.DeleteFunc(next.holes, func(h hole) bool { return h.hour < hourOf(last.created)-holesFor })
	if lost = max(0, len(next.holes)-mostHoles); lost > 0 {
		if gap != len(c.holes) {
			return next, 0, errManyHoles
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

// holesText is the holes as an item has them, with the states at their ends:
// "10-12@482000:gC0x:Yz_1 15-20@482001:pQ-2:".
func (c *counted) holesText() string {
	var b strings.Builder
	for i, h := range c.holes {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%s-%s@%d:%s:%s", short(h.after), short(h.before), h.hour, h.from, h.to)
	}
	return b.String()
}

func short(sequence string) string { return cmp.Or(strings.TrimLeft(sequence, "0"), "0") }

var errHoles = errors.New("are not holes that this version can read")

func parseHoles(text string) (holes []hole, err error) {
	for part := range strings.FieldsSeq(text) {
		var h hole
		numbers, states, ok0 := strings.Cut(part, ":")
		sequences, hour, ok1 := strings.Cut(numbers, "@")
		after, before, ok2 := strings.Cut(sequences, "-")
		h.from, h.to, _ = strings.Cut(states, ":")
		var errs [3]error
		h.after, errs[0] = padded(after)
		h.before, errs[1] = padded(before)
		h.hour, errs[2] = strconv.ParseInt(hour, 10, 64)
		if !ok0 || !ok1 || !ok2 || errors.Join(errs[:]...) != nil {
			return nil, fmt.Errorf("%q %w", text, errHoles)
		}
		holes = append(holes, h)
	}
	return holes, nil
}
