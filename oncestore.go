package zael

import (
	"context"
	"time"
)

// An OnceTake says how [OnceStore].TakeOnce takes at most once.
type OnceTake struct {
	// Once has the key of the take. Without one, the take is made whenever it is asked for.
	Once

	// Unless is the key of an end, if there is one: if an AdjustOnce has used it, nothing is
	// taken.
	Unless string

	// Answer returns what is kept with the key. It is called when the debits are taken, with their
	// receipts, in another goroutine perhaps, and must not keep them. A store that has to try again
	// calls it for each try.
	Answer func(at time.Time, debits []Debit) []byte
}

// An OnceStore makes takes and adjusts once by a key, so that whoever does not know whether one was
// made can repeat it, on any process that shares the store. It keeps answers of up to 16 KiB
// with the keys. Keys are apart from those of [AdminStore].
type OnceStore interface {
	// TakeOnce is Take, in one step with its key. If the key is known by now with the same
	// Hash, nothing is taken and first is what was kept with it; with another Hash the error
	// matches ErrKeyUsed. The key of a take that failed is free. If the key of Unless is known,
	// nothing is taken and the error matches ErrLeaseClosed. Without debits nothing is taken.
	//
	// A caller whose ctx ends before TakeOnce has answered may have taken, if there is a key: a
	// repetition finds out.
	TakeOnce(ctx context.Context, now time.Time, maxWait time.Duration, debits []Debit, once OnceTake) (at time.Time, first []byte, err error)

	// AdjustOnce is Adjust of all debits, or of none, in one step with its key, with which it
	// keeps the answer. There may be no debits. If the key is known by now nothing changes,
	// and first is what was kept with it, whatever its Hash.
	AdjustOnce(ctx context.Context, now time.Time, debits []Debit, once Once, answer []byte) (first []byte, err error)

	// Extend moves the deadline of d.Holder, which has the slots that the charges name under
	// their receipts, to now and the longest hold of its slots, and returns it. It takes
	// nothing: if the holder was removed or has been released, held is false and nothing has
	// changed. In every store, a holder that is named dies unless it is extended in time.
	Extend(ctx context.Context, now time.Time, d Debit) (deadline time.Time, held bool, err error)
}
