// Package recent keeps the values of the keys that were used last, in bounded
// memory.
package recent

// A Map holds values for at least the size keys that were used last, and for at
// most twice as many. Keys live in two generations: a key that is used moves to the
// young one, and when that is full it becomes the old one and what was still in the
// old one is dropped. That costs less than a list in order of use and needs no
// bookkeeping on the path of a key that is young.
//
// The zero Map is not ready for use; see [New]. A Map is not safe for concurrent
// use.
type Map[K comparable, V any] struct {
	size       int
	young, old map[K]V
}

// New returns an empty Map of a size, which must be at least 1.
func New[K comparable, V any](size int) *Map[K, V] {
	return &Map[K, V]{size: size, young: map[K]V{}}
}

// Get returns the value of a key and reports whether there is one. Getting a key
// uses it.
func (m *Map[K, V]) Get(key K) (V, bool) {
	v, ok := m.young[key]
	if ok {
		return v, true
	}
	if v, ok = m.old[key]; ok {
		m.Put(key, v)
	}
	return v, ok
}

// Put sets the value of a key, which uses it.
func (m *Map[K, V]) Put(key K, v V) {
	if len(m.young) >= m.size {
		if _, ok := m.young[key]; !ok {
			m.old, m.young = m.young, make(map[K]V, m.size/4)
		}
	}
	m.young[key] = v
}

// Delete removes a key.
func (m *Map[K, V]) Delete(key K) {
	delete(m.young, key)
	delete(m.old, key)
}

// Clear removes all keys.
func (m *Map[K, V]) Clear() {
	m.young, m.old = map[K]V{}, nil
}
