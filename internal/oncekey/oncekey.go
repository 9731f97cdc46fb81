// Package oncekey decides about operations that are made once by a key, in stores that perform an
// operation and look at its keys in one transaction.
package oncekey

import (
	"slices"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/stamp"
	"github.com/zeroae/zael/internal/storearg"
)

// A Kept is what is kept with a key.
type Kept struct {
	Hash, Until string // Until is by package stamp
	Answer      []byte
}

// Keys are those that a transaction sees.
type Keys interface {
	// Kept returns what is kept with a key at a time; nil if that is not known.
	Kept(key, now string) (*Kept, error)
	Keep(key, now string, k Kept) error
}

// An Operation is the part of a take or an adjust that is made once.
type Operation struct {
	Key    string // "": it is made whenever it is asked for
	Unless string // the key of an end, or ""

	At    time.Time // of the operation, for its answer
	First []byte    // what was kept with the key, if that is known

	now    string
	kept   Kept
	repeat bool // a key that is known has the first answer, whatever its hash
	answer func(at time.Time, debits []zael.Debit) []byte
}

// Take returns the part of a take, checked.
func Take(now time.Time, once *zael.OnceTake, names storearg.Names) (*Operation, error) {
	o, err := operation(now, &once.Once, names)
	if err != nil {
		return nil, err
	}
	o.Unless, o.answer = once.Unless, once.Answer
	return o, names.Name("OnceTake.Unless", once.Unless)
}

// Adjust returns the part of an adjust, checked.
func Adjust(now time.Time, once *zael.Once, answer []byte, names storearg.Names) (*Operation, error) {
	o, err := operation(now, once, names)
	if err == nil && o.Key == "" {
		err = storearg.Invalid("Once.Key", "", "is empty: name the change")
	}
	if err != nil {
		return nil, err
	}
	answer = slices.Clone(answer)
	o.repeat, o.answer = true, func(time.Time, []zael.Debit) []byte { return answer }
	return o, nil
}

func operation(now time.Time, once *zael.Once, names storearg.Names) (*Operation, error) {
	o := &Operation{Key: once.Key, At: now, kept: Kept{Hash: once.Hash}}
	var err error
	if o.now, err = stamp.Checked("now", now); err != nil || o.Key == "" {
		return o, err
	}
	if err := names.Name("Once.Key", o.Key); err != nil {
		return nil, err
	}
	o.kept.Until, err = stamp.Checked("Once.Until", once.Until)
	return o, err
}

// GivenBack reports whether a take is to be given back if its caller has left: with a key, a
// repetition finds out. The nil Operation has none.
func (o *Operation) GivenBack() bool { return o == nil || o.Key == "" }

// Perform makes the operation by perform, if it has debits and its keys allow, and keeps the answer.
// err is what it answers, having changed nothing; fatal is an error of the transaction. perform
// returns both, too.
func (o *Operation) Perform(keys Keys, debits []zael.Debit, perform func() (err, fatal error)) (err, fatal error) {
	o.First = nil
	if o.Key != "" {
		switch k, fatal := keys.Kept(o.Key, o.now); {
		case fatal != nil:
			return nil, fatal
		case k != nil && k.Hash != o.kept.Hash && !o.repeat:
			return zael.ErrKeyUsed, nil
		case k != nil:
			o.First = k.Answer
			return nil, nil
		}
	}
	if o.Unless != "" {
		if k, fatal := keys.Kept(o.Unless, o.now); fatal != nil || k != nil {
			return zael.ErrLeaseClosed, fatal
		}
	}
	if len(debits) > 0 {
		if err, fatal := perform(); err != nil || fatal != nil {
			return err, fatal
		}
	}
	if o.Key == "" {
		return nil, nil
	}
	o.kept.Answer = o.answer(o.At, debits)
	return nil, keys.Keep(o.Key, o.now, o.kept)
}
