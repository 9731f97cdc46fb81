package memstore_test

import (
	"testing"

	"github.com/zeroae/zael/internal/testrig/definitions"
	"github.com/zeroae/zael/memstore"
)

// A definition that is not valid is refused: no bucket could be used that has it.
func TestWrongDefinitions(t *testing.T) {
	t.Parallel()
	definitions.Refused(t, memstore.New(nil), t0)
}
