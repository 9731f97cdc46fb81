package usage

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/schema"
)

// A Record is one change of an item, as a table's stream has it.
type Record struct {
	Sequence string    // unique in its shard
	Created  time.Time // approximate, to the second
	PK, SK   string
	Old, New Image // nil if the item did not exist
}

// An Image holds the attributes of an item that Wanted selects, as text.
type Image map[string]string

// Wanted reports whether an Image needs an attribute. The text of one that is neither a
// number nor a text is "".
func Wanted(attribute string) bool {
	switch attribute {
	case schema.BucketEvents, schema.Birth, schema.Removals, schema.ItemVersion:
		return true
	}
	return isOfLimit(attribute)
}

// isOfLimit reports whether an attribute is a counter of one limit.
func isOfLimit(attribute string) bool {
	return strings.HasPrefix(attribute, schema.Counter) || strings.HasPrefix(attribute, schema.Overdrawn)
}

// ErrUncountable matches the errors of records that this version can never count.
var ErrUncountable = errors.New("usage: record cannot be counted")

// A change is a bucket's Record, decoded.
type change struct {
	keys    schema.Keys
	key     zael.Key
	life    string // of the bucket
	created time.Time
	coverage
}

// decode decodes a record. ok is false if it is not about a bucket, or the bucket expired
// or was deleted, which takes nothing.
func decode(r *Record) (c change, ok bool, err error) {
	if c.keys, c.key, ok = schema.Bucket(r.PK, r.SK); !ok {
		return c, false, nil
	}
	if r.New == nil && r.Old != nil {
		return c, false, nil
	}
	switch {
	case r.Created.IsZero():
		return c, true, fmt.Errorf("%w: it has no time of creation", ErrUncountable)
	case r.New == nil:
		return c, true, fmt.Errorf("%w: it has no image: the table's stream must have new and old images", ErrUncountable)
	}
	c.created = r.Created.UTC().Truncate(time.Second)
	if c.life, err = lifeOf(r.New); err != nil {
		return c, true, err
	}
	if c.last, err = wholeNumber(r.New, schema.ItemVersion); err != nil {
		return c, true, err
	}
	c.first = c.last
	if c.after, err = countersOf(r.New); err != nil {
		return c, true, err
	}
	if c.before, err = countersBefore(r, c.after); err != nil {
		return c, true, err
	}
	if sameItem(r) && r.Old[schema.ItemVersion] == r.New[schema.ItemVersion] && !c.empty() {
		return c, true, fmt.Errorf("%w: counters have changed, and %s is %d as before", ErrUncountable, schema.ItemVersion, c.last)
	}
	return c, true, nil
}

// A life of a bucket is the time in which its counters are cumulative. It ends when the
// item expires or is deleted, and with each write that removes counters.
func lifeOf(image Image) (string, error) {
	life := image[schema.Birth]
	if n, ok := image[schema.Removals]; ok {
		life += "." + n
	}
	if strings.Contains(life, "#") {
		return "", fmt.Errorf("%w: %s and %s are %q, which cannot be in a key", ErrUncountable, schema.Birth, schema.Removals, life)
	}
	return life, nil
}

// sameItem reports whether a change did not create the item.
func sameItem(r *Record) bool {
	return r.Old != nil && r.Old[schema.Birth] == r.New[schema.Birth]
}

func countersOf(image Image) (counters, error) {
	c := counters{}
	for attribute := range image {
		if attribute != schema.BucketEvents && !isOfLimit(attribute) {
			continue
		}
		n, err := wholeNumber(image, attribute)
		if err != nil {
			return nil, err
		}
		c[attribute] = n
	}
	return c, nil
}

func wholeNumber(image Image, attribute string) (int64, error) {
	n, err := strconv.ParseInt(image[attribute], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: %s is %q, which is not a whole number", ErrUncountable, attribute, image[attribute])
	}
	return n, nil
}

// countersBefore returns the counters that a change began with, in the life that it ends
// in. Those that it removed are not among them: a removal takes nothing.
func countersBefore(r *Record, after counters) (counters, error) {
	if !sameItem(r) {
		return counters{}, nil
	}
	before, err := countersOf(r.Old)
	if err != nil {
		return nil, err
	}
	for name := range before {
		if _, ok := after[name]; ok {
			continue
		}
		if r.Old[schema.Removals] == r.New[schema.Removals] {
			return nil, fmt.Errorf("%w: %s was removed, and %s does not say so", ErrUncountable, name, schema.Removals)
		}
		delete(before, name)
	}
	return before, nil
}
