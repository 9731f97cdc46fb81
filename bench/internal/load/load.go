// Package load has the keys of the benchmarks and the order in which they are used.
package load

import (
	"math/rand/v2"
	"strconv"
	"sync"
)

// A Pattern says how often each key is used.
type Pattern string

// Patterns.
const (
	One     Pattern = "one"     // a single key
	Uniform Pattern = "uniform" // all keys equally often
	Zipf    Pattern = "zipf"    // few keys often, most seldom: rank^-1.1
)

const (
	manyKeys = 100_000 // of all patterns except One
	length   = 1 << 19 // of their sequences; a power of two
	exponent = 1.1
	width    = len("key-123456")
)

// A Load is a set of keys and a sequence of them. It is immutable.
type Load struct {
	// Keys is the number of keys: Key(0), Key(1), …
	Keys int
	// text is the sequence, all keys joined. Choosing a key costs next to nothing; the
	// key is in the processor's cache, like that of a request just read; and it is not
	// the string that a limiter keeps.
	text string
	mask int // length in keys, minus one
}

// At returns element i of the sequence, which repeats without end.
func (l *Load) At(i int) string {
	i = (i & l.mask) * width
	return l.text[i : i+width]
}

// Key returns key i as a new string.
func Key(i int) string { return "key-" + strconv.Itoa(100_000+i) }

// Loads makes the Load of each pattern once. The zero value is ready to use, and safe
// for concurrent use.
type Loads struct {
	// Once says that benchmarks are run to see that they run: nothing is made ready that only
	// their numbers need.
	Once bool

	mu   sync.Mutex
	made map[Pattern]*Load
}

// Get returns the Load of a pattern, always the same.
func (l *Loads) Get(p Pattern) *Load {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.made[p] == nil {
		if l.made == nil {
			l.made = map[Pattern]*Load{}
		}
		l.made[p] = newLoad(p)
	}
	return l.made[p]
}

func newLoad(p Pattern) *Load {
	r := rand.New(rand.NewPCG(1, 2))
	switch p {
	case One:
		return sequence(1, 1, func() int { return 0 })
	case Zipf:
		// Frequent keys must not be those whose buckets were made first.
		keys := r.Perm(manyKeys)
		z := rand.NewZipf(r, exponent, 1, manyKeys-1)
		return sequence(manyKeys, length, func() int { return keys[z.Uint64()] })
	default:
		return sequence(manyKeys, length, func() int { return r.IntN(manyKeys) })
	}
}

func sequence(keys, length int, next func() int) *Load {
	text := make([]byte, 0, length*width)
	for range length {
		text = append(text, Key(next())...)
	}
	return &Load{Keys: keys, text: string(text), mask: length - 1}
}
