package redisstore

import (
	"slices"
	"sync"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/recent"
)

// texts are what calls for one bucket have in common, so that each need not make them again. They do
// not change.
type texts struct {
	hash, index, resource string // the keys, and the resource as the set has it
	limits                []*limitTexts
}

// limitTexts are those of a limit under a definition, of all buckets.
type limitTexts struct {
	limit              limitOf
	want               string // see wantedText
	define, mark, used string // fields
}

// A limitOf is a limit under a definition.
type limitOf struct {
	name       string
	definition bucket.Definition
}

const (
	manyTexts  = 16   // of how many limits a bucket's texts are kept
	manyLimits = 1000 // of how many limits under definitions texts are kept
)

// A limitShelf has the texts of limits that were used lately.
type limitShelf struct {
	mu    sync.Mutex
	texts *recent.Map[limitOf, *limitTexts]
}

func newLimitShelf() *limitShelf {
	return &limitShelf{texts: recent.New[limitOf, *limitTexts](manyLimits)}
}

// of returns the texts of a limit.
func (s *limitShelf) of(l limitOf) *limitTexts {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.texts.Get(l)
	if !ok {
		t = newLimitTexts(l)
		s.texts.Put(l, t)
	}
	return t
}

func newLimitTexts(l limitOf) *limitTexts {
	return &limitTexts{
		limit: l, want: string(wantedText(&l.definition)),
		define: string(definitionField) + l.name, mark: string(markField) + l.name, used: string(usedField) + l.name,
	}
}

func newTexts(k keys, key zael.Key) *texts {
	return &texts{hash: k.bucket(key), index: k.index(key.Entity), resource: escape(key.Resource)}
}

// of returns the texts of a limit, and those of the bucket with them.
func (t *texts) of(c *zael.Charge, shelf *limitShelf) (*limitTexts, *texts) {
	for _, l := range t.limits {
		if l.limit.name == c.Name && l.limit.definition == c.Definition {
			return l, t
		}
	}
	next := *t
	next.limits = slices.DeleteFunc(slices.Clone(t.limits), func(l *limitTexts) bool { return l.limit.name == c.Name })
	if len(next.limits) >= manyTexts {
		next.limits = nil
	}
	l := shelf.of(limitOf{c.Name, c.Definition})
	next.limits = append(next.limits, l)
	return l, &next
}

// named returns the texts of a limit that a write changes, which the charges have named.
func (t *texts) named(l *bucket.LimitState) *limitTexts {
	for _, known := range t.limits {
		if known.limit.name == l.Name {
			return known
		}
	}
	return newLimitTexts(limitOf{l.Name, l.State.Definition})
}
