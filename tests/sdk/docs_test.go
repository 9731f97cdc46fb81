package sdk_test

import (
	"testing"

	"github.com/zeroae/zael/internal/testrig/docprogram"
)

// TestPackageBeginsWithAProgram: the one with which the documentation of package llm
// begins compiles.
func TestPackageBeginsWithAProgram(t *testing.T) {
	t.Parallel()
	program, err := docprogram.Of("../../llm")
	if err != nil {
		t.Fatal(err)
	}
	if err := docprogram.Vet(t.Context(), ".", t.TempDir(), program); err != nil {
		t.Error(err)
	}
}
