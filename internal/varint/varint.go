// Package varint reads what encoding/binary's variable-length integers, and bytes after their
// length, were appended to.
package varint

import "encoding/binary"

// A Reader reads values from the front of Rest. If one is missing or damaged, Bad is set, Rest is
// empty, and what is read from then on is zero.
type Reader struct {
	Rest []byte
	Bad  bool
}

// Bytes returns the next n bytes, which are a part of Rest.
func (r *Reader) Bytes(n uint64) []byte {
	if n > uint64(len(r.Rest)) {
		r.Bad, r.Rest = true, nil
		return nil
	}
	b := r.Rest[:n]
	r.Rest = r.Rest[n:]
	return b
}

// Byte returns the next byte.
func (r *Reader) Byte() byte {
	if b := r.Bytes(1); len(b) == 1 {
		return b[0]
	}
	return 0
}

// Unsigned returns the next number of binary.AppendUvarint.
func (r *Reader) Unsigned() uint64 {
	v, n := binary.Uvarint(r.Rest)
	return r.skip(v, n)
}

// Signed returns the next number of binary.AppendVarint.
func (r *Reader) Signed() int64 {
	v, n := binary.Varint(r.Rest)
	return int64(r.skip(uint64(v), n))
}

func (r *Reader) skip(v uint64, n int) uint64 {
	if n <= 0 {
		r.Bad, r.Rest = true, nil
		return 0
	}
	r.Rest = r.Rest[n:]
	return v
}

// Text returns the next text, which follows its length.
func (r *Reader) Text() string { return string(r.Bytes(r.Unsigned())) }

// Count returns the next number, of things that follow it, each of a byte or more.
func (r *Reader) Count() int {
	n := r.Unsigned()
	if n > uint64(len(r.Rest)) {
		r.Bad, r.Rest = true, nil
		return 0
	}
	return int(n)
}
