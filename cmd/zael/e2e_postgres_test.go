//go:build unix

package main_test

import (
	"os"
	"testing"

	"github.com/zeroae/zael/internal/testrig/needs"
	"github.com/zeroae/zael/internal/testrig/pgtest"
)

// TestOldestPostgres runs each command on data on the oldest PostgreSQL that the store runs on: outputs
// and exit codes are those of a file.
func TestOldestPostgres(t *testing.T) {
	t.Parallel()
	needs.Engine(t)
	bin, err := pgtest.InstallOldest(t.Context(), os.Stderr)
	needs.Check(t, err, pgtest.ErrMissing)
	s := newShop(t)
	s.store = pgtest.Start(t, pgtest.Options{Bin: bin}).URL("postgres")
	s.run(0, "table", "create")
	compareWithFile(t, s, s.store+"?usage=true")
}
