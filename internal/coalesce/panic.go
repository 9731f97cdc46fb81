package coalesce

import (
	"context"
	"fmt"
	"runtime/debug"
)

// panicked is a panic of the Engine, with its stack: it goes on to callers who
// wait elsewhere.
type panicked struct {
	value any
	stack []byte
}

func (p *panicked) Error() string { return fmt.Sprintf("%v\n\n%s", p.value, p.stack) }

func (p *panicked) Unwrap() error {
	err, _ := p.value.(error)
	return err
}

// again panics, if there is a panic.
func (p *panicked) again() {
	if p != nil {
		panic(p)
	}
}

// write is Engine.Write; a panic of it is an answer.
func (g *Coalescer) write(ctx context.Context, b *Batch) (a Answer) {
	defer func() {
		if v := recover(); v != nil {
			a = Answer{Verdict: Failed, panicked: &panicked{v, debug.Stack()}}
		}
	}()
	return g.engine.Write(ctx, b)
}
