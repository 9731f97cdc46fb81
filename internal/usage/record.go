package usage

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/schema"
)

// A Record is one change of an item, as the table's stream tells it.
type Record struct {
	Sequence string    // up to 40 digits, growing from change to change of an item
	Created  time.Time // when the stream had it, rounded down to a second or more
	PK, SK   string
	Old, New Image // nil: there was, or is, none
}

// An Image is what Counts reads of an item, as text: see Wanted.
type Image map[string]string

// Wanted tells whether an attribute belongs into an Image. One that is neither
// number nor text belongs there as "": it is then an error where it is read.
func Wanted(attribute string) bool {
	return attribute == schema.BucketEvents || attribute == schema.Birth || attribute == schema.Removals ||
		strings.HasPrefix(attribute, schema.Counter)
}

// ErrUncountable is matched by the errors of records that cannot be counted, now
// or later, by this version.
var ErrUncountable = errors.New("usage: record cannot be counted")

// counts are the counters of a bucket at one moment.
type counts struct {
	birth    string
	removals string // how many writes have removed counters
	events   int64
	amounts  map[string]int64
}

func readCounts(image Image) (c counts, err error) {
	c.amounts = map[string]int64{}
	for attribute, text := range image {
		name, isAmount := strings.CutPrefix(attribute, schema.Counter)
		switch {
		case attribute == schema.Birth:
			c.birth = text
			continue
		case attribute == schema.Removals:
			c.removals = text
			continue
		case !isAmount && attribute != schema.BucketEvents:
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return c, fmt.Errorf("%w: %s is %q, which is not a whole number", ErrUncountable, attribute, text)
		}
		if isAmount {
			c.amounts[name] = n
		} else {
			c.events = n
		}
	}
	return c, nil
}

// state is a name of a bucket's counters at one moment. What lies between two
// moments with one state adds up to nothing.
func (c *counts) state() string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %d", c.birth, c.removals, c.events)
	for _, name := range slices.Sorted(maps.Keys(c.amounts)) {
		fmt.Fprintf(h, " %q %d", name, c.amounts[name])
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:12])
}

// A change is a Record of a bucket, read.
type change struct {
	sequence      string // of sequenceDigits
	created       time.Time
	keys          schema.Keys
	key           zael.Key
	before, after string // states; before is empty, and follows nothing, if the bucket was not there
	delta
}

// A delta is what was taken: net amounts, and acquires.
type delta struct {
	events  int64
	amounts map[string]int64 // those that changed
}

func (d *delta) none() bool { return d.events == 0 && len(d.amounts) == 0 }

// sequenceDigits is how long sequence numbers are made, so that they sort as text.
// They have 40 digits at the most, and a number of the table 38.
const sequenceDigits = 40

func padded(sequence string) (string, error) {
	if sequence == "" || len(sequence) > sequenceDigits || strings.Trim(sequence, "0123456789") != "" {
		return "", fmt.Errorf("%w: its sequence number %q is not up to %d digits", ErrUncountable, sequence, sequenceDigits)
	}
	return strings.Repeat("0", sequenceDigits-len(sequence)) + sequence, nil
}

// read reads a record. ok is false if it is no bucket's, or there is nothing to
// count because the bucket expired or was deleted.
func read(r *Record) (c change, ok bool, err error) {
	if c.keys, c.key, ok = schema.Bucket(r.PK, r.SK); !ok {
		return c, false, nil
	}
	if r.New == nil && r.Old != nil {
		return c, false, nil
	}
	if c.sequence, err = padded(r.Sequence); err != nil {
		return c, true, err
	}
	if r.Created.IsZero() {
		return c, true, fmt.Errorf("%w: it has no time of creation", ErrUncountable)
	}
	if r.New == nil {
		return c, true, fmt.Errorf("%w: it has no image: the table's stream needs new and old images", ErrUncountable)
	}
	c.created = r.Created.UTC().Truncate(time.Second)
	var was, is counts
	if was, err = readCounts(r.Old); err != nil {
		return c, true, err
	}
	if is, err = readCounts(r.New); err != nil {
		return c, true, err
	}
	if r.Old != nil {
		c.before = was.state()
	}
	c.after = is.state()
	if was.birth != is.birth {
		was = counts{} // another bucket
	}
	c.delta, err = difference(&was, &is)
	return c, true, err
}

// difference returns what a change took. A counter that it removed counts nothing;
// one that was missing before counts from 0.
func difference(was, is *counts) (d delta, err error) {
	d.amounts = map[string]int64{}
	for name, n := range is.amounts {
		more, ok := minus(n, was.amounts[name])
		if !ok {
			return d, fmt.Errorf("%w: %s%s went from %d to %d", ErrUncountable, schema.Counter, name, was.amounts[name], n)
		}
		if more != 0 {
			d.amounts[name] = more
		}
	}
	var ok bool
	if d.events, ok = minus(is.events, was.events); !ok {
		return d, fmt.Errorf("%w: %s went from %d to %d", ErrUncountable, schema.BucketEvents, was.events, is.events)
	}
	return d, nil
}

func minus(a, b int64) (n int64, ok bool) {
	n = a - b
	return n, (n < a) == (b > 0)
}

func plus(a, b int64) (n int64, ok bool) {
	n = a + b
	return n, (n > a) == (b > 0)
}

// mostNames is how many limits one update of usage names: its text has 4096
// bytes at the most.
const mostNames = 100

// add adds other, unless that cannot be written in one update.
func (d *delta) add(other *delta) bool {
	sum := delta{amounts: maps.Clone(d.amounts)}
	var ok bool
	if sum.events, ok = plus(d.events, other.events); !ok {
		return false
	}
	if sum.amounts == nil {
		sum.amounts = map[string]int64{}
	}
	for name, n := range other.amounts {
		if sum.amounts[name], ok = plus(sum.amounts[name], n); !ok {
			return false
		}
	}
	if len(sum.amounts) > mostNames && len(d.amounts) > 0 {
		return false
	}
	*d = sum
	return true
}

// Compare tells which of two sequence numbers is the smaller one, as cmp.Compare.
func Compare(a, b string) int {
	a, b = strings.TrimLeft(a, "0"), strings.TrimLeft(b, "0")
	return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}
