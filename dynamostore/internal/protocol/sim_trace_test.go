package protocol_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/dynamostore/internal/protocol"
	"github.com/zeroae/zael/internal/coalesce"
)

func (w *world) logf(format string, args ...any) {
	w.trace = append(w.trace, line{w.now, format, args})
}

// A line is one of a trace: its text is made when somebody reads it.
type line struct {
	at     bucket.Instant
	format string
	args   []any
}

func (w *world) text() string {
	var b strings.Builder
	for _, l := range w.trace {
		fmt.Fprintf(&b, "%12v ", time.Duration(l.at))
		fmt.Fprintf(&b, l.format+"\n", l.args...)
	}
	return b.String()
}

// An opText is what a trace says of a write.
type opText struct {
	id       uint64
	kind     coalesce.Kind
	at, seen bucket.Instant
	wait     time.Duration
	charges  []zael.Charge
}

func textOf(o *protocol.BucketWrite) opText {
	return opText{o.ID, o.Kind, o.At, o.Seen, o.MaxWait, slices.Clone(o.Charges)}
}

func (o opText) String() string {
	s := fmt.Sprintf("op %x kind %d at %v seen %v within %v:", o.id, o.kind, time.Duration(o.at), time.Duration(o.seen-o.at), o.wait)
	for _, c := range o.charges {
		s += fmt.Sprintf(" %q %+d of %d at %d/%v rev %d", c.Name, c.Amount, c.Definition.Burst, c.Definition.Amount, c.Definition.Period, c.Definition.Rev)
	}
	return s
}

// record returns the item as it is.
func (w *world) record() *protocol.Record {
	if w.isKnown {
		return w.is
	}
	r, err := recordOf(w.table.Get("E#e", "B#r"))
	if err != nil {
		w.failf("the item: %w", err)
	}
	w.is, w.isKnown = r, true
	return r
}

// written returns what a write has left of the item.
func (w *world) written(item map[string]types.AttributeValue) *protocol.Record {
	w.isKnown = false
	r, err := recordOf(item)
	if err != nil {
		w.failf("the item: %w", err)
	}
	w.is, w.isKnown = r, true
	return r
}

// drop deletes the item.
func (w *world) drop() {
	w.table.Delete("E#e", "B#r")
	w.is, w.isKnown = nil, true
}
