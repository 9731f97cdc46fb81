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
	"github.com/zeroae/zael/internal/saturate"
	"github.com/zeroae/zael/internal/schema"
)

// Usage is counted by an aggregator from the changes of c_<limit> and e of the buckets.
// This file reads what it writes: an item for each entity, resource, window and life of
// the bucket, with its counters before the window's first change and after the last, at
//
//	PK U#<entity>                           SK <resource>#<window>#<start>#<life>
//	GSI1PK U#<resource>#<window>#<start>    GSI1SK <entity>

// lookBack returns how far back a resource's usage is read if the query has no From.
func lookBack(w zael.Window, now time.Time) time.Time {
	switch w {
	case zael.Daily:
		return now.AddDate(-2, 0, 0)
	case zael.Monthly:
		return now.AddDate(-10, 0, 0)
	default:
		return now.AddDate(0, 0, -92) // two days more than usage is kept by default
	}
}

// usageReads is how many windows of a resource are read at a time.
const usageReads = 16

// Usage implements zael.UsageStore. Each window of a resource is a query, so without From
// it reads the last 92 days by the hour, two years by the day and ten by the month. It
// finds them by the index, which may be a moment behind.
func (s *Store) Usage(ctx context.Context, q zael.UsageQuery) iter.Seq2[zael.UsageRecord, error] {
	if !s.config.UsageCounted {
		return failed[zael.UsageRecord](fmt.Errorf("dynamostore: usage is not counted: run an aggregator, and set Config.UsageCounted: %w", errors.ErrUnsupported))
	}
	q.Window = cmp.Or(q.Window, zael.Hourly)
	if q.Entity == "" && q.Resource == "" {
		return failed[zael.UsageRecord](invalid("UsageQuery", nil, "names neither Entity nor Resource"))
	}
	if err := errors.Join(checkText("UsageQuery.Entity", q.Entity), checkText("UsageQuery.Resource", q.Resource)); err != nil {
		return failed[zael.UsageRecord](err)
	}
	return func(yield func(zael.UsageRecord, error) bool) {
		var items []zael.UsageRecord
		var err error
		if q.Entity != "" {
			items, err = s.usageOfEntity(ctx, q)
		} else {
			from, to := q.From, q.To
			if from.IsZero() {
				from = lookBack(q.Window, s.wall())
			}
			if to.IsZero() {
				to = s.wall().Add(time.Hour) // clocks may differ
			}
			items, err = s.usageOfResource(ctx, q, from, to)
		}
		records := sumLives(items)
		slices.SortFunc(records, func(a, b zael.UsageRecord) int {
			return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.Entity, b.Entity), cmp.Compare(a.Resource, b.Resource))
		})
		for _, r := range records {
			if !yield(r, nil) {
				return
			}
		}
		if err != nil {
			yield(zael.UsageRecord{}, err)
		}
	}
}

const readingUsage = "reading usage"

func (s *Store) usageOfEntity(ctx context.Context, q zael.UsageQuery) ([]zael.UsageRecord, error) {
	ask := query{pk: s.keys.Usage(q.Entity)}
	if q.Resource != "" {
		ask = ask.prefixed(q.Resource + "#" + schema.WindowWord(q.Window) + "#")
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

// sumLives adds up the items of one window, of which there is one for each life of the
// bucket.
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
	}
	return records
}

func selects(q zael.UsageQuery, r zael.UsageRecord) bool {
	return r.Window == q.Window && (q.Resource == "" || q.Resource == r.Resource) &&
		(q.From.IsZero() || !r.Start.Before(q.From)) && (q.To.IsZero() || r.Start.Before(q.To))
}

// usageOfResource reads every window from one time to another, each of which is a
// partition of the index. It is not known here which windows are counted.
func (s *Store) usageOfResource(ctx context.Context, q zael.UsageQuery, from, to time.Time) ([]zael.UsageRecord, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex
	var all []zael.UsageRecord
	var wg sync.WaitGroup
	slots := make(chan struct{}, usageReads)
	for start, end := q.Window.Bounds(from); start.Before(to) && ctx.Err() == nil; start, end = q.Window.Bounds(end) {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			records, err := s.usageOfWindow(ctx, q, start)
			if err != nil {
				cancel(err) // the first is the one that counts
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, records...)
		})
	}
	wg.Wait()
	return all, context.Cause(ctx)
}

func (s *Store) usageOfWindow(ctx context.Context, q zael.UsageQuery, start time.Time) (all []zael.UsageRecord, err error) {
	for page, err := range s.pages(ctx, readingUsage, query{index: true, pk: s.keys.UsageIndex(q.Resource, q.Window, start)}) {
		if err != nil {
			return all, err
		}
		items, err := s.followed(ctx, readingUsage, page)
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
