package redisstore

import (
	"slices"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// texts are what calls for one bucket have in common, so that each need not make them again. They do
// not change.
type texts struct {
	hash, index, resource string // the keys, and the resource as the set has it
	limits                []limitTexts
}

// limitTexts are those of a limit under a definition.
type limitTexts struct {
	name                   string
	definition             bucket.Definition
	want                   string // see wantedText
	define, mark, usedText string // fields
}

// manyTexts is of how many limits texts are kept.
const manyTexts = 16

func newTexts(k keys, key zael.Key) *texts {
	return &texts{hash: k.bucket(key), index: k.index(key.Entity), resource: escape(key.Resource)}
}

// of returns the texts of a limit, and those of the bucket with them.
func (t *texts) of(c *zael.Charge) (*limitTexts, *texts) {
	for i := range t.limits {
		if l := &t.limits[i]; l.name == c.Name && l.definition == c.Definition {
			return l, t
		}
	}
	next := *t
	next.limits = slices.DeleteFunc(slices.Clone(t.limits), func(l limitTexts) bool { return l.name == c.Name })
	if len(next.limits) >= manyTexts {
		next.limits = nil
	}
	next.limits = append(next.limits, limitTexts{
		name: c.Name, definition: c.Definition, want: string(wantedText(&c.Definition)),
		define: string(definitionField) + c.Name, mark: string(markField) + c.Name, usedText: string(usedField) + c.Name,
	})
	return &next.limits[len(next.limits)-1], &next
}
