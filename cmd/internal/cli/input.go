package cli

import (
	"context"
	"io"
)

// An input reads standard input until a context is done. As a read of a terminal or a
// pipe cannot be interrupted, a goroutine makes it.
type input struct {
	ctx     context.Context
	r       io.Reader
	buffer  [1 << 16]byte
	left    []byte // part of buffer that is not returned yet
	waiting bool   // a read is in progress, and owns buffer
	answer  chan answer
}

type answer struct {
	n   int
	err error
}

func newInput(ctx context.Context, r io.Reader) *input {
	return &input{ctx: ctx, r: r, answer: make(chan answer, 1)}
}

// Read implements io.Reader.
func (i *input) Read(p []byte) (int, error) {
	var err error
	if len(i.left) == 0 {
		if !i.waiting {
			i.waiting = true
			go func() {
				n, err := i.r.Read(i.buffer[:])
				i.answer <- answer{n, err}
			}()
		}
		select {
		case a := <-i.answer:
			i.waiting = false
			i.left, err = i.buffer[:a.n], a.err
		case <-i.ctx.Done():
			return 0, i.ctx.Err()
		}
	}
	n := copy(p, i.left)
	i.left = i.left[n:]
	if len(i.left) > 0 {
		return n, nil // the reader will return the error again
	}
	return n, err
}

// Close does nothing, as standard input stays open.
func (i *input) Close() error { return nil }
