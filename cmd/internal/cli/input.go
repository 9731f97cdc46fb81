package cli

import (
	"context"
	"io"
)

// An input reads standard input until a context is done, although a read of a
// terminal or a pipe cannot be interrupted: it waits for it elsewhere.
type input struct {
	ctx     context.Context
	r       io.Reader
	buffer  [1 << 16]byte
	left    []byte // of buffer, not given out yet
	waiting bool   // a read is under way; buffer is its
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
		return n, nil // the reader will say the error again
	}
	return n, err
}

// Close does nothing; standard input is not ours to close.
func (i *input) Close() error { return nil }
