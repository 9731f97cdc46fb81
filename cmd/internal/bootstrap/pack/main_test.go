package main

import (
	"archive/zip"
	"bytes"
	"io"
	"testing"
)

// TestWrite: the same program gives the same bytes, under the name and mode that
// Lambda wants. (The aggregator's tests run what pack builds.)
func TestWrite(t *testing.T) {
	t.Parallel()
	code := bytes.Repeat([]byte("program "), 10_000)
	var a, b bytes.Buffer
	for _, w := range []*bytes.Buffer{&a, &b} {
		if err := write(w, code); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Error("got two different zips of one program")
	}
	r, err := zip.NewReader(bytes.NewReader(a.Bytes()), int64(a.Len()))
	if err != nil || len(r.File) != 1 {
		t.Fatalf("got %v, want one file", err)
	}
	f := r.File[0]
	if f.Name != "bootstrap" || f.Mode() != 0o755 || f.Modified.Year() != 2025 {
		t.Errorf("got %s, mode %v, of %v, want bootstrap, 0755, of 2025", f.Name, f.Mode(), f.Modified)
	}
	in, err := f.Open()
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(in)
	if err != nil || !bytes.Equal(got, code) {
		t.Errorf("got %d bytes (%v), want the program", len(got), err)
	}
}
