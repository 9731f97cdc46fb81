package bootstrap_test

import (
	"archive/zip"
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/zeroae/zael/cmd/internal/bootstrap"
)

// TestZip passes with the zips and without them, as the tests do not need make
// aggregator.
func TestZip(t *testing.T) {
	t.Parallel()
	for _, arch := range []string{"arm64", "x86_64", "amd64"} {
		data, err := bootstrap.Zip(arch)
		if listed := slices.Contains(bootstrap.Architectures(), arch); arch != "amd64" && listed != (err == nil) {
			t.Errorf("%s: Architectures lists it: %v, but Zip returned error %v", arch, listed, err)
		}
		if errors.Is(err, bootstrap.ErrMissing) {
			if !strings.Contains(err.Error(), "make build") {
				t.Errorf("%s: got %v, want the remedy named", arch, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		r, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
		if err != nil || len(r.File) != 1 || r.File[0].Name != "bootstrap" || len(data) > 8<<20 {
			t.Errorf("%s: got %d bytes (%v), want one bootstrap in at most 8 MB", arch, len(data), err)
		}
	}
	if _, err := bootstrap.Zip("sparc"); err == nil || errors.Is(err, bootstrap.ErrMissing) {
		t.Errorf("an unknown architecture: got %v, want an error that says so", err)
	}
}
