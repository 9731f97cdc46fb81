package sqlitestore_test

import (
	"testing"

	"github.com/zeroae/zael/internal/testrig/definitions"
)

// A definition that is not valid is refused: a bucket that has it could not be read again.
func TestWrongDefinitions(t *testing.T) {
	t.Parallel()
	definitions.Refused(t, open(t, newPath(t), nil), t0)
}
