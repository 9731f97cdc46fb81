package postgresstore_test

import (
	"testing"

	"github.com/zeroae/zael/internal/testrig/definitions"
	"github.com/zeroae/zael/postgresstore"
)

// A definition that is not valid is refused: a bucket that has it could not be read again.
func TestWrongDefinitions(t *testing.T) {
	t.Parallel()
	s := open(t, sharedURL(t), &postgresstore.Config{Namespace: newNamespace()})
	definitions.Refused(t, s, t0)
}
