package redisstore_test

import (
	"testing"

	"github.com/zeroae/zael/internal/testrig/definitions"
	"github.com/zeroae/zael/internal/testrig/redistest"
	"github.com/zeroae/zael/redisstore"
)

// A definition that is not valid is refused: a bucket that has it could not be read again.
func TestWrongDefinitions(t *testing.T) {
	t.Parallel()
	s := newStore(t, newClient(t, engines.Address(t, redistest.Valkey)), redisstore.Config{})
	definitions.Refused(t, s, t0)
}
