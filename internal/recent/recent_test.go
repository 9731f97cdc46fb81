package recent_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/zeroae/zael/internal/recent"
)

// TestMap compares a Map with a list of all keys in order of use. It has each of the
// size keys used last, none after which twice as many were used, and no value but the
// last one.
func TestMap(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 8).Draw(t, "size")
		m := recent.New[int, int](size)
		var used []int // keys, the one used last at the end
		values := map[int]int{}
		use := func(key int) {
			used = append(slices.DeleteFunc(used, func(k int) bool { return k == key }), key)
		}
		key := rapid.IntRange(0, 20)
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				k, v := key.Draw(t, "key"), rapid.Int().Draw(t, "value")
				m.Put(k, v)
				values[k] = v
				use(k)
			},
			"get": func(t *rapid.T) {
				k := key.Draw(t, "key")
				v, ok := m.Get(k)
				_, put := values[k]
				after := used[slices.Index(used, k)+1:] // the keys used since, deleted ones too
				kept := 0
				for _, other := range after {
					if _, ok := values[other]; ok {
						kept++
					}
				}
				switch {
				case ok && (!put || v != values[k]):
					t.Fatalf("key %d: got %d, want %d (put: %v)", k, v, values[k], put)
				case !ok && put && len(after) < size:
					t.Fatalf("key %d: got none, want %d: size %d, and only %d keys were used since", k, values[k], size, len(after))
				case ok && kept >= 2*size:
					t.Fatalf("key %d: got %d, want none: size %d, and %d keys were used since", k, v, size, kept)
				case ok:
					use(k)
				}
			},
			"delete": func(t *rapid.T) {
				k := key.Draw(t, "key")
				m.Delete(k)
				delete(values, k)
			},
			"clear": func(*rapid.T) {
				m.Clear()
				clear(values)
				used = nil
			},
		})
	})
}

// BenchmarkGet is a key in use among 20,000.
func BenchmarkGet(b *testing.B) {
	m := recent.New[[2]string, *int](20_000)
	for i := range 20_000 {
		m.Put([2]string{string(rune(i)), "gpt-4"}, new(int))
	}
	key := [2]string{string(rune(7)), "gpt-4"}
	for b.Loop() {
		m.Get(key)
	}
}
