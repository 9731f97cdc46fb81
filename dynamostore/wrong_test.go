package dynamostore_test

import (
	"testing"

	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/testrig/definitions"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
	"github.com/zeroae/zael/internal/trial"
)

// A definition that is not valid is refused: a bucket that has it could not be read again.
func TestWrongDefinitions(t *testing.T) {
	t.Parallel()
	s, err := dynamostore.NewTrial(dynamofake.New(), "fake", patient(), trial.Options{VirtualTime: true})
	opened(t, s, err)
	definitions.Refused(t, s, t0)
}
