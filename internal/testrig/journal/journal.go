// Package journal is a log for tests, which can be waited for.
package journal

import (
	"bytes"
	"strings"
	"sync"
)

// A Journal is an io.Writer that keeps all. Its methods may be called concurrently.
type Journal struct {
	mu    sync.Mutex
	grown sync.Cond
	text  bytes.Buffer
}

// New returns an empty journal.
func New() *Journal {
	j := new(Journal)
	j.grown.L = &j.mu
	return j
}

// Write implements io.Writer.
func (j *Journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	defer j.grown.Broadcast()
	return j.text.Write(p)
}

// Await waits until the journal has a text after its first bytes, and returns how long it is
// then.
func (j *Journal) Await(after int, text string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	for !strings.Contains(j.text.String()[after:], text) {
		j.grown.Wait()
	}
	return j.text.Len()
}

// Len returns the length in bytes.
func (j *Journal) Len() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Len()
}

// String returns all.
func (j *Journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}
