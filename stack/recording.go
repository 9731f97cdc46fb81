package stack

import (
	"context"
	"fmt"
	"time"
)

const (
	writeAttempts = 10              // of a record that others keep changing
	lookTimeout   = 3 * time.Second // for a stack that a program can do without
)

// lookUp reads the stack for a program that can do without it; nil if there is none. A
// program that uses the table need not reach CloudFormation, which is silent where a
// network lets nothing else pass.
func (s *Stack) lookUp(ctx context.Context) (*snapshot, error) {
	within, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	return s.describe(within, s.name)
}

// Function returns the aggregator that the stack has; the zero Function if it has none.
// The error matches ErrNoStack if there is no stack, and is an *Error while the stack is
// created, updated or deleted. It waits no longer than 3 s for an answer.
func (s *Stack) Function(ctx context.Context) (Function, error) {
	d, err := s.lookUp(ctx)
	switch {
	case err != nil:
		return Function{}, err
	case d == nil:
		return Function{}, fmt.Errorf("%w: %s", ErrNoStack, s.name)
	case !d.updatable():
		return Function{}, &Error{Op: "read", Stack: s.name, Reason: fmt.Sprintf("it is %s", d.status)}
	}
	return *functionOf(d.params), nil
}

// openRecord returns the record for a program that only connects. Where there is none, or
// one that does not know the aggregator, it looks at the stack, if that can be read, and
// writes what it finds, if it may.
func (s *Stack) openRecord(ctx context.Context, by string) (*Record, error) {
	for range writeAttempts {
		old, err := s.readRecord(ctx)
		if err != nil || old != nil && !old.Unknown {
			return old, err
		}
		var f *Function
		d, err := s.lookUp(ctx)
		switch {
		case ctx.Err() != nil:
			return nil, fmt.Errorf("stack: looking for %s: %w", s.name, ctx.Err())
		case err == nil && d == nil:
			f = new(Function) // a table of no stack has none
		case err == nil && d.updatable():
			f = functionOf(d.params)
		}
		r := old.withFunction(f)
		if old != nil && r == *old {
			return old, nil
		}
		r.UpdatedAt, r.UpdatedBy = s.now(), by
		ok, err := s.writeRecord(ctx, old, r)
		if isDenied(err) { // a program that only reads
			return &r, nil
		}
		if ok || err != nil {
			return &r, err
		}
	}
	return nil, fmt.Errorf("stack: others keep changing the version record of %s", s.name)
}

// noteVersions brings the record up to date with the stack d.
//
// Other programs may change stack and record meanwhile. So where the record differs
// from d, the stack is read again after the record was, and the record is written only if
// it has not changed since.
func (s *Stack) noteVersions(ctx context.Context, d *snapshot, by string) (*Record, error) {
	for n := range writeAttempts {
		old, err := s.readRecord(ctx)
		if err != nil {
			return nil, err
		}
		if old != nil {
			if err := compareVersions(old, devel).err; err != nil {
				return nil, err
			}
			if old.withFunction(functionOf(d.params)) == *old {
				return old, nil
			}
		}
		if old != nil || n > 0 {
			now, err := s.describe(ctx, d.id)
			if err != nil {
				return nil, err
			}
			if now == nil || now.busy() {
				return old, nil // the program that changes the stack writes what comes of it
			}
			d = now
		}
		r := old.withFunction(functionOf(d.params))
		if old != nil && r == *old {
			return old, nil
		}
		r.UpdatedAt, r.UpdatedBy = s.now(), by
		if ok, err := s.writeRecord(ctx, old, r); ok || err != nil {
			return &r, err
		}
	}
	return nil, fmt.Errorf("stack: others keep changing the version record of %s", s.name)
}
