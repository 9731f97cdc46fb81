package suite_test

import (
	"testing"

	"github.com/zeroae/zael/bench/internal/peers"
	"github.com/zeroae/zael/bench/internal/suite"
)

// TestHeap checks that an entity takes more than its key, and 300 bytes at most in zael.
//
//nolint:paralleltest // allocations of other tests would count
func TestHeap(t *testing.T) {
	entities := 10_000
	if testing.Short() {
		entities = 5_000
	}
	for _, w := range peers.Contenders() {
		if w.Limits != 2 {
			continue
		}
		got, err := suite.Heap(&w, entities)
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
