package coalesce

import (
	"context"
	"fmt"
	"runtime/debug"
)

// A panicked is a panic of the Engine, with its stack. It is raised again in the callers'
// goroutines.
type panicked struct {
	value any
	stack []byte
}

func (p *panicked) Error() string { return fmt.Sprintf("%v\n\n%s", p.value, p.stack) }

func (p *panicked) Unwrap() error {
	err, _ := p.value.(error)
	return err
}

// raise panics, if there is a panic.
func (p *panicked) raise() {
	if p != nil {
		panic(p)
	}
}

// write calls Engine.Write, and returns its panic as an answer.
func (g *Coalescer) write(ctx context.Context, b *Batch) (a Answer) {
	defer func() {
		if v := recover(); v != nil {
			a = Answer{Outcome: Failed, panicked: &panicked{v, debug.Stack()}}
		}
	}()
	return g.engine.Write(ctx, b)
}
