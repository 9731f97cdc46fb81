package rows_test

import (
	"testing"

	"github.com/zeroae/zael/bench/internal/peers"
	"github.com/zeroae/zael/bench/internal/rows"
)

// An entity has at least its key's text, and zael promises 300 bytes.
//
//nolint:paralleltest // what other tests allocate meanwhile would count
func TestHeap(t *testing.T) {
	for _, w := range peers.Ways() {
		if w.Limits != 2 {
			continue
		}
		got, err := rows.Heap(&w, 10_000)
		if err != nil {
			t.Error(err)
			continue
		}
		t.Logf("%s: %.0f bytes an entity", w.Name, got)
		if most := 600.0; got < 16 || got > most || w.Zael && got > 300 {
			t.Errorf("%s: bytes an entity: got %.0f, want 16 to %.0f, and of zael at most 300", w.Name, got, most)
		}
	}
}
