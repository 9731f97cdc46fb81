package sqlitestore

import (
	"context"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/rowusage"
)

// Script runs statements on the connection that writes.
func (s *Store) Script(ctx context.Context, statements string) error {
	return s.change(ctx, func(t *txn) error { return t.conn.script(statements) })
}

// Waiting returns how many operations wait for the writer.
func (s *Store) Waiting() int {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	return len(s.queue.ops)
}

// A Row is the state of a bucket as it is stored.
type Row struct {
	Latest, Events int64
	Limits         []RowLimit
}

// A RowLimit is one limit of a Row.
type RowLimit struct {
	zael.LimitState
	Used      int64
	Counted   bool
	Overdrawn int64
}

// EncodeRow returns the state as it is stored.
func EncodeRow(from Row) []byte {
	r := row{Record: bucket.Record{Latest: bucket.Instant(from.Latest)}, events: from.Events}
	for _, l := range from.Limits {
		r.Limits = append(r.Limits, l.LimitState)
		r.used = append(r.used, rowusage.Limit{Tokens: l.Used, Counted: l.Counted, Overdrawn: l.Overdrawn})
	}
	return r.encode(nil)
}

// DecodeRow decodes a state.
func DecodeRow(b []byte) (Row, error) {
	var r row
	if err := r.decode(b); err != nil {
		return Row{}, err
	}
	to := Row{Latest: int64(r.Latest), Events: r.events, Limits: []RowLimit{}}
	for i, l := range r.Limits {
		to.Limits = append(to.Limits, RowLimit{LimitState: l, Used: r.used[i].Tokens, Counted: r.used[i].Counted, Overdrawn: r.used[i].Overdrawn})
	}
	return to, nil
}
