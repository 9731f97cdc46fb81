// Package pages iterates over what is read a page at a time, so that nothing is locked and no
// connection is held while the caller looks at it.
package pages

import "iter"

// Size is how many records a page has at most.
const Size = 500

// Of iterates over what next reads. next returns up to Size records that follow last, the first ones
// if last is nil; fewer than Size are the end, and so is an error.
func Of[T any](next func(last *T) ([]T, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var last *T
		for {
			page, err := next(last)
			if err != nil {
				Failed[T](err)(yield)
				return
			}
			for _, v := range page {
				if !yield(v, nil) {
					return
				}
			}
			if len(page) < Size {
				return
			}
			last = &page[len(page)-1]
		}
	}
}

// Map iterates over what f makes of what another iterator yields.
func Map[T, U any](all iter.Seq2[T, error], f func(T) U) iter.Seq2[U, error] {
	return func(yield func(U, error) bool) {
		for v, err := range all {
			if err != nil {
				Failed[U](err)(yield)
				return
			}
			if !yield(f(v), nil) {
				return
			}
		}
	}
}

// Failed yields an error alone.
func Failed[T any](err error) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		yield(none, err)
	}
}
