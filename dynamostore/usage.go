package dynamostore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/schema"
)

// Usage is counted by an aggregator from the changes of c_<limit> and e of the
// buckets. This file reads what it writes: an item for each entity, resource and
// window, with c_<limit> (tokens) and events, at
//
//	PK U#<entity>                           SK <resource>#<window>#<start>
//	GSI1PK U#<resource>#<window>#<start>    GSI1SK <entity>

// lookBack is how far back a resource's usage is looked for where no bound is
// given.
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

// Usage implements zael.UsageStore. Of a resource each window is a query, so
// without From it looks back 92 days by the hour, two years by the day and ten by
// the month. The index, by which it finds them, may be a moment behind.
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
		var records []zael.UsageRecord
		var err error
		if q.Entity != "" {
			records, err = s.usageOfEntity(ctx, q)
		} else {
			from, to := q.From, q.To
			if from.IsZero() {
				from = lookBack(q.Window, s.wall())
			}
			if to.IsZero() {
				to = s.wall().Add(time.Hour) // clocks may differ
			}
			records, err = s.usageOfResource(ctx, q, from, to)
		}
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

func selects(q zael.UsageQuery, r zael.UsageRecord) bool {
	return r.Window == q.Window && (q.Resource == "" || q.Resource == r.Resource) &&
		(q.From.IsZero() || !r.Start.Before(q.From)) && (q.To.IsZero() || r.Start.Before(q.To))
}

// usageOfResource looks at each window of a time, which is a partition of the
// index: which other windows are counted is not known here.
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

// usageOf reads an item of usage. The last two parts of its sort key have no "#".
func (s *Store) usageOf(it item) (zael.UsageRecord, error) {
	sk := schema.TextIn(it, "SK")
	r := zael.UsageRecord{Entity: strings.TrimPrefix(schema.TextIn(it, "PK"), s.keys.Usage("")), Amounts: zael.Amounts{}}
	i := strings.LastIndexByte(sk, '#')
	j := strings.LastIndexByte(sk[:max(i, 0)], '#')
	if i < 0 || j < 0 {
		return r, fmt.Errorf("dynamostore: usage of %s: its key %q is not one", r.Entity, sk)
	}
	r.Resource = sk[:j]
	r.Window = schema.WindowOf(sk[j+1 : i])
	var err error
	if r.Start, err = time.Parse(schema.StartLayout, sk[i+1:]); err != nil {
		return r, fmt.Errorf("dynamostore: usage of %s: %w", r.Entity, err)
	}
	if r.Events, err = sumIn(it, schema.UsageEvents); err != nil {
		return r, fmt.Errorf("dynamostore: usage of %s: %w", r.Entity, err)
	}
	for attribute := range it {
		if name, ok := strings.CutPrefix(attribute, schema.Counter); ok {
			if r.Amounts[name], err = sumIn(it, attribute); err != nil {
				return r, fmt.Errorf("dynamostore: usage of %s: %w", r.Entity, err)
			}
		}
	}
	return r, nil
}

// sumIn is a number that stops at the ends of int64, as the table's do not.
func sumIn(it item, name string) (int64, error) {
	n, err := schema.NumberIn(it, name)
	if errors.Is(err, strconv.ErrRange) {
		err = nil
	}
	return n, err
}
