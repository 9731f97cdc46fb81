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
	at          string // state of the bucket after the last
	holes       []hole // in order
}

// A hole is where changes may be missing: after one that is counted and before
// another. Nearly always there are none in it: a bucket that expired and was born
// again leaves one too.
type hole struct {
	after, before string // sequence numbers of changes that are counted
	hour          int64  // of before, since 1970
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

// with is c and a run that missing gave. lost is how many holes were given up
// because there are too many.
func (c *counted) with(run []change) (next counted, lost int) {
	first, last := &run[0], &run[len(run)-1]
	next = counted{first: c.first, last: c.last, at: c.at, holes: slices.Clone(c.holes)}
	gap, _ := c.gap(first.sequence)
	switch {
	case gap < 0:
		next.holes = slices.Insert(next.holes, 0, hole{last.sequence, c.first, hourOf(last.created)})
		next.first = first.sequence
	case gap == len(c.holes):
		if first.before != c.at {
			next.holes = append(next.holes, hole{c.last, first.sequence, hourOf(first.created)})
		}
		next.last, next.at = last.sequence, last.after
	default:
		old := c.holes[gap]
		next.holes = slices.Replace(next.holes, gap, gap+1,
			hole{old.after, first.sequence, old.hour}, hole{last.sequence, old.before, old.hour})
	}
	next.holes = slices.DeleteFunc(next.holes, func(h hole) bool { return h.hour < hourOf(last.created)-holesFor })
	if lost = max(0, len(next.holes)-mostHoles); lost > 0 {
		next.holes = next.holes[lost:]
	}
	return next, lost
}

func hourOf(t time.Time) int64 { return t.Unix() / 3600 }

// holesText is the holes as an item has them: "10-12@482000 15-20@482001".
func (c *counted) holesText() string {
	var b strings.Builder
	for i, h := range c.holes {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%s-%s@%d", short(h.after), short(h.before), h.hour)
	}
	return b.String()
}

func short(sequence string) string { return cmp.Or(strings.TrimLeft(sequence, "0"), "0") }

var errHoles = errors.New("are not holes that this version can read")

func parseHoles(text string) (holes []hole, err error) {
	for part := range strings.FieldsSeq(text) {
		var h hole
		sequences, hour, ok1 := strings.Cut(part, "@")
		after, before, ok2 := strings.Cut(sequences, "-")
		var errs [3]error
		h.after, errs[0] = padded(after)
		h.before, errs[1] = padded(before)
		h.hour, errs[2] = strconv.ParseInt(hour, 10, 64)
		if !ok1 || !ok2 || errors.Join(errs[:]...) != nil {
			return nil, fmt.Errorf("%q %w", text, errHoles)
		}
		holes = append(holes, h)
	}
	return holes, nil
}
