package main

import (
	"context"
	"fmt"
	"io"

	"github.com/zeroae/zael"
)

// A kindRow is a bucket of several kinds of limits. The first is settled to 3 where 1 was
// taken, if settles is true.
type kindRow struct {
	name    string
	limits  []zael.Limit
	settles bool
}

func kindRows() []kindRow {
	rate, quota := zael.PerMinute("tpm", 1e9), zael.EachDay("tpd", 1e12)
	return []kindRow{
		{"three rates", []zael.Limit{rate, zael.PerHour("tph", 1e9), zael.PerDay("tpd", 1e9)}, true},
		{"rate + quota + slots", []zael.Limit{rate, quota, zael.AtOnce("parallel", 20)}, true},
		{"rate + 2 quotas, as taken", []zael.Limit{rate, quota, zael.EachMonth("tpmonth", 1e13)}, false},
	}
}

// A kindCost is what an acquire and a commit cost.
type kindCost struct{ acquireCalls, acquireUnits, commitCalls, commitUnits float64 }

// kinds measures one process that acquires, settles and commits, beside 7 others that hold
// slots of the same bucket.
func (b *bench) kinds(ctx context.Context, row kindRow) (c kindCost, err error) {
	const holders, times = 8, 100
	policy, err := zael.NewPolicy("bench", row.limits...)
	if err != nil {
		return c, err
	}
	entity := b.prefix()
	var p *process
	for range holders {
		if p, err = b.process(false, true); err != nil {
			return c, err
		}
		defer p.store.Close(context.WithoutCancel(ctx))
		defer p.Close(context.WithoutCancel(ctx))
		if _, err := p.Acquire(ctx, policy.For(entity, 1, 1, 1)); err != nil { // is held; the bucket is known since
			return c, err
		}
	}
	count := func(calls, units *float64, f func() error) error {
		before := p.store.Stats()
		err := f()
		after := p.store.Stats()
		*calls += float64(after.Writes+after.Reads-before.Writes-before.Reads) / times
		*units += (after.WriteUnits - before.WriteUnits) / times
		return err
	}
	for range times {
		var lease *zael.Lease
		if err := count(&c.acquireCalls, &c.acquireUnits, func() (err error) {
			lease, err = p.Acquire(ctx, policy.For(entity, 1, 1, 1))
			return err
		}); err != nil {
			return c, err
		}
		if row.settles {
			if err := lease.Settle(zael.Amounts{row.limits[0].Name: 3}); err != nil {
				return c, err
			}
		}
		if err := count(&c.commitCalls, &c.commitUnits, func() error { return lease.Commit(ctx) }); err != nil {
			return c, err
		}
	}
	return c, nil
}

func (b *bench) writeKinds(ctx context.Context, out io.Writer) error {
	fmt.Fprintf(out, "\n%-34s %9s %9s %9s %9s\n", "a bucket with 8 holders", "acquire", "units", "commit", "units")
	for _, row := range kindRows() {
		c, err := b.kinds(ctx, row)
		if err != nil {
			return fmt.Errorf("%s: %w", row.name, err)
		}
		fmt.Fprintf(out, "%-34s %9.2f %9.2f %9.2f %9.2f\n", "  "+row.name, c.acquireCalls, c.acquireUnits, c.commitCalls, c.commitUnits)
	}
	return nil
}
