// Package load makes the keys of the benchmarks: which exist, and in which
// order they are asked for.
package load

import (
	"math/rand/v2"
	"strconv"
	"sync"
)

// A Pattern is how often each key is asked for.
type Pattern string

// The patterns.
const (
	One     Pattern = "one"     // a single key
	Uniform Pattern = "uniform" // all keys equally often
	Zipf    Pattern = "zipf"    // few keys often, most seldom: rank^-1.1
)

const (
	many     = 100_000 // keys of the patterns but One
	length   = 1 << 19 // of their sequences, a power of two
	exponent = 1.1
	width    = len("key-123456")
)

// A Load is a set of keys and a sequence of them. Nothing in it changes.
type Load struct {
	// Keys is how many keys there are: Key(0), Key(1), …
	Keys int
	// The sequence, one key behind the other. So choosing a key costs next to
	// nothing, its text lies in the processor's cache like that of a request
	// just read, and it is not the text that a limiter keeps.
	text string
	mask int // its length in keys, less one
}

// At is element i of the sequence, which repeats without end.
func (l *Load) At(i int) string {
	i = (i & l.mask) * width
	return l.text[i : i+width]
}

// Key is the text of key number i, a new one each time.
func Key(i int) string { return "key-" + strconv.Itoa(100_000+i) }

// Loads makes each pattern's Load once. The zero value is ready; it may be used
// concurrently.
type Loads struct {
	mu   sync.Mutex
	made map[Pattern]*Load
}

// Get is the Load of a pattern; always the same.
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
		// A key's rank says nothing about when its bucket was made.
		keys := r.Perm(many)
		z := rand.NewZipf(r, exponent, 1, many-1)
		return sequence(many, length, func() int { return keys[z.Uint64()] })
	default:
		return sequence(many, length, func() int { return r.IntN(many) })
	}
}

func sequence(keys, length int, next func() int) *Load {
	text := make([]byte, 0, length*width)
	for range length {
		text = append(text, Key(next())...)
	}
	return &Load{Keys: keys, text: string(text), mask: length - 1}
}
