package dynamostore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/pages"
	"github.com/zeroae/zael/internal/saturate"
	"github.com/zeroae/zael/internal/schema"
	"github.com/zeroae/zael/internal/storearg"
)

// Usage is counted by an aggregator from the changes of c_<limit>, i_<limit> and e of the buckets.
// This file reads what it writes: an item for each entity, resource, window and life of
// the bucket, with its counters before the window's first change and after the last, at
//
//	PK U#<entity>                           SK <resource>#<window>#<start>#<life>
//	GSI1PK U#<resource>#<window>#<start>    GSI1SK <entity>

// usageReads is how many windows of a resource are read at a time.
const usageReads = 16

// Usage implements zael.UsageStore. Each window of a resource is a query of the index,
// which may be a moment behind. Without From, a resource's usage is read as
// zael.UsageQuery.WithDefaults says.
func (s *Store) Usage(ctx context.Context, q zael.UsageQuery) iter.Seq2[zael.UsageRecord, error] {
	if !s.config.UsageCounted {
		return pages.Failed[zael.UsageRecord](fmt.Errorf("dynamostore: usage is not counted: run an aggregator, and set Config.UsageCounted: %w", errors.ErrUnsupported))
	}
	q = q.WithDefaults(s.clock.Read().Wall)
	if q.Entity == "" && q.Resource == "" {
		return pages.Failed[zael.UsageRecord](storearg.Invalid("UsageQuery", nil, "names neither Entity nor Resource"))
	}
	if err := errors.Join(storable.Name("UsageQuery.Entity", q.Entity), storable.Name("UsageQuery.Resource", q.Resource)); err != nil {
		return pages.Failed[zael.UsageRecord](err)
	}
	if q.Entity == "" {
		return s.usageOfResource(ctx, q)
	}
	return func(yield func(zael.UsageRecord, error) bool) {
		items, err := s.usageOfEntity(ctx, q)
		if err != nil {
			yield(zael.UsageRecord{}, err)
			return
		}
		for _, r := range sumLives(items) {
			if !yield(r, nil) {
				return
			}
		}
	}
}

const readingUsage = "reading usage"

func (s *Store) usageOfEntity(ctx context.Context, q zael.UsageQuery) ([]zael.UsageRecord, error) {
	ask := query{pk: s.keys.Usage(q.Entity)}
	if q.Resource != "" {
		ask = ask.prefixed(schema.UsagePrefix(q.Resource, q.Window))
	}
	var all []zael.UsageRecord
	for page, err := range s.pages(ctx, readingUsage, ask) {
		if err != nil {
			return nil, err
		}
		for _, it := range page {
			r, err := s.usageOf(it)
			if err != nil {
				return nil, err
			}
			if selects(q, r) {
				all = append(all, r)
			}
		}
	}
	return all, nil
}

// sumLives adds up the items of each window, of which there is one for each life of the
// bucket, and puts the sums into the order of Usage.
func sumLives(items []zael.UsageRecord) (records []zael.UsageRecord) {
	type window struct {
		entity, resource string
		start            time.Time
	}
	found := map[window]int{}
	for _, it := range items {
		w := window{it.Entity, it.Resource, it.Start}
		i, ok := found[w]
		if !ok {
			found[w] = len(records)
			records = append(records, it)
			continue
		}
		r := &records[i]
		r.Events = saturate.Add(r.Events, it.Events)
		for name, n := range it.Amounts {
			r.Amounts[name] = saturate.Add(r.Amounts[name], n)
		}
		r.Overdrawn = saturate.AddAll(r.Overdrawn, it.Overdrawn)
	}
	slices.SortFunc(records, func(a, b zael.UsageRecord) int {
		return cmp.Or(b.Start.Compare(a.Start), cmp.Compare(a.Entity, b.Entity), cmp.Compare(a.Resource, b.Resource))
	})
	return records
}

func selects(q zael.UsageQuery, r zael.UsageRecord) bool {
	return r.Window == q.Window && (q.Resource == "" || q.Resource == r.Resource) &&
		(q.From.IsZero() || !r.Start.Before(q.From)) && (q.To.IsZero() || r.Start.Before(q.To))
}

// usageOfResource reads the windows from q.From to q.To, each of which is a partition of the
// index, some at a time and the newest first. It is not known here which windows are
// counted.
func (s *Store) usageOfResource(ctx context.Context, q zael.UsageQuery) iter.Seq2[zael.UsageRecord, error] {
	type answer struct {
		items []zael.UsageRecord
		err   error
	}
	return func(yield func(zael.UsageRecord, error) bool) {
		var wg sync.WaitGroup
		defer wg.Wait()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		to := q.To
		if to.IsZero() {
			to = s.clock.Read().Wall.Add(time.Hour) // clocks may differ
		}
		next, _ := q.Window.Bounds(to.Add(-1))
		var pending []chan answer
		for {
			for ; len(pending) < usageReads && !next.Before(q.From); next, _ = q.Window.Bounds(next.Add(-1)) {
				start, reply := next, make(chan answer, 1)
				pending = append(pending, reply)
				wg.Go(func() {
					items, err := s.usageOfWindow(ctx, q, start)
					reply <- answer{items, err}
				})
			}
			if len(pending) == 0 {
				return
			}
			a := <-pending[0]
			pending = pending[1:]
			if a.err != nil {
				yield(zael.UsageRecord{}, a.err)
				return
			}
			for _, r := range sumLives(a.items) {
				if !yield(r, nil) {
					return
				}
			}
		}
	}
}

func (s *Store) usageOfWindow(ctx context.Context, q zael.UsageQuery, start time.Time) (all []zael.UsageRecord, err error) {
	for page, err := range s.pages(ctx, readingUsage, query{index: true, pk: s.keys.UsageIndex(q.Resource, q.Window, start)}) {
		if err != nil {
			return all, err
		}
		items, err := s.readByIndex(ctx, readingUsage, page)
		if err != nil {
			return all, err
		}
		for _, it := range items {
			r, err := s.usageOf(it)
			if err != nil {
				return all, err
			}
			if selects(q, r) {
				all = append(all, r)
			}
		}
	}
	return all, nil
}

// usageOf decodes an item of usage.
func (s *Store) usageOf(it item) (zael.UsageRecord, error) {
	r := zael.UsageRecord{Entity: strings.TrimPrefix(schema.TextIn(it, "PK"), s.keys.Usage("")), Amounts: zael.Amounts{}}
	var err error
	if r.Resource, r.Window, r.Start, err = schema.ParseUsageSort(schema.TextIn(it, "SK")); err != nil {
		return r, fmt.Errorf("dynamostore: usage of %s: %w", r.Entity, err)
	}
	before, _ := it[schema.UsageBefore].(*types.AttributeValueMemberM)
	after, _ := it[schema.UsageAfter].(*types.AttributeValueMemberM)
	if before == nil || after == nil {
		return r, fmt.Errorf("dynamostore: usage of %s: its item lacks counters", r.Entity)
	}
	for attribute := range after.Value {
		n, err := took(before.Value, after.Value, attribute)
		if err != nil {
			return r, fmt.Errorf("dynamostore: usage of %s: %w", r.Entity, err)
		}
		if name, ok := strings.CutPrefix(attribute, schema.Counter); ok && n != 0 {
			r.Amounts[name] = n
		} else if name, ok := strings.CutPrefix(attribute, schema.Overdrawn); ok {
			r.Overdrawn = saturate.AddAll(r.Overdrawn, map[string]int64{name: n})
		} else if attribute == schema.BucketEvents {
			r.Events = n
		}
	}
	return r, nil
}

// took returns by how much a counter grew, within the ends of int64.
func took(before, after item, name string) (int64, error) {
	b, err := schema.NumberIn(before, name)
	if err != nil {
		return 0, err
	}
	a, err := schema.NumberIn(after, name)
	return saturate.Sub(a, b), err
}
