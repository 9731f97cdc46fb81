package redisstore

import (
	"strconv"
	"sync"
)

// arguments are what take.lua is called with.
type arguments struct {
	keys, args []string
	rows       []row // of all parts

	digits []byte // of all arguments that are not texts of their own
	placed []placed
}

// A placed is an argument that is among the digits.
type placed struct{ arg, from, to int }

//nolint:gochecknoglobals // it saves making them
var spareArguments = sync.Pool{New: func() any { return new(arguments) }}

// newArguments returns empty arguments, which may be given back by spare when the script was called.
func newArguments() *arguments {
	s := spareArguments.Get().(*arguments) //nolint:forcetypeassert // the pool holds nothing else
	s.keys, s.args, s.rows, s.digits, s.placed = s.keys[:0], s.args[:0], s.rows[:0], s.digits[:0], s.placed[:0]
	return s
}

// spare gives arguments back.
func (s *arguments) spare() {
	clear(s.keys)
	clear(s.args)
	clear(s.rows)
	spareArguments.Put(s)
}

func (s *arguments) add(args ...string) { s.args = append(s.args, args...) }

// number adds a number.
func (s *arguments) number(n int64) {
	s.args = append(s.args, "")
	s.setNumber(len(s.args)-1, n)
}

// setNumber sets an argument to a number.
func (s *arguments) setNumber(arg int, n int64) {
	from := len(s.digits)
	s.digits = strconv.AppendInt(s.digits, n, 10)
	s.placed = append(s.placed, placed{arg, from, len(s.digits)})
}

// Heads of MessagePack, in which lists of texts are packed. Redis reads the forms of it that were
// there first.
const (
	packedShort  = 0xa0 // and the length, of up to 31 bytes
	packedMiddle = 0xda // and two bytes with the length
	packedLong   = 0xdb // and four bytes with the length
	packedList   = 0xdc // and two bytes with how many texts there are
)

// list adds an argument that is a list of n texts, which are then packed, until listed is called.
func (s *arguments) list(n int) {
	s.placed = append(s.placed, placed{len(s.args), len(s.digits), 0})
	s.args = append(s.args, "")
	s.digits = append(s.digits, packedList, byte(n>>8), byte(n))
}

// listed ends a list.
func (s *arguments) listed() { s.placed[len(s.placed)-1].to = len(s.digits) }

// pack adds a text to the list.
func (s *arguments) pack(text string) {
	switch n := len(text); {
	case n < 32:
		s.digits = append(s.digits, packedShort|byte(n))
	case n < 1<<16:
		s.digits = append(s.digits, packedMiddle, byte(n>>8), byte(n))
	default:
		s.digits = append(s.digits, packedLong, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	s.digits = append(s.digits, text...)
}

// packNumber adds a number to the list.
func (s *arguments) packNumber(n int64) {
	head := len(s.digits)
	s.digits = strconv.AppendInt(append(s.digits, 0), n, 10)
	s.digits[head] = packedShort | byte(len(s.digits)-head-1)
}

// finish sets the numbers and lists.
func (s *arguments) finish() {
	digits := string(s.digits)
	for _, p := range s.placed {
		s.args[p.arg] = digits[p.from:p.to]
	}
}
