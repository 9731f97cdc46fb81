package protocol_test

import (
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/dynamostore/internal/protocol"
	"github.com/zeroae/zael/internal/coalesce"
)

// The rows of the table in docs/dynamodb.md for quotas and windows. Numbers are written as
// they are named there.
func TestRowsOfKinds(t *testing.T) {
	t.Parallel()
	const now = bucket.Instant(400*24*time.Hour + 7*time.Hour)
	calendar := func(each bucket.Cycle) *bucket.Calendar {
		c, err := bucket.NewCalendar(bucket.CalendarSpec{Each: each})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	day, _ := calendar(bucket.Daily).Period(now)
	yesterday, hour := day-bucket.Instant(24*time.Hour), now // an hour begins now
	quota := func(n int64, each bucket.Cycle, flags bucket.Flags) bucket.Definition {
		return bucket.Definition{Kind: bucket.Quota, Burst: n, Capacity: n, Calendar: calendar(each), Flags: flags}
	}
	q, carry := quota(10, bucket.Daily, 0), quota(10, bucket.Daily, bucket.CarryDebt)
	session := bucket.Definition{Kind: bucket.Session, Burst: 10, Capacity: 10, Period: 5 * time.Hour}
	rate := bucket.Definition{Burst: 10, Amount: 10, Period: time.Minute, Capacity: 10}
	drip := rate.Drip(now)
	of := func(d bucket.Definition, start bucket.Instant, used int64) *protocol.Record {
		return recordOfLimit(t, d, int64(start), used)
	}
	take := func(d bucket.Definition, n int64) []zael.Charge {
		return []zael.Charge{{Name: "q", Definition: d, Amount: n}}
	}
	settle := func(d bucket.Definition, n int64, start bucket.Instant) []zael.Charge {
		return []zael.Charge{{Name: "q", Definition: d, Amount: n, Receipt: bucket.Receipt{Mark: int64(start), Generation: 1}}}
	}
	names := strings.NewReplacer(
		strconv.FormatInt(int64(day), 10), "since", strconv.FormatInt(int64(day)-1, 10), "since-1",
		strconv.FormatInt(int64(yesterday), 10), "yesterday", strconv.FormatInt(int64(hour), 10), "now", strconv.FormatInt(int64(hour)-1, 10), "now-1",
		strconv.FormatInt(int64(now)-int64(5*time.Hour), 10), "now-5h", strconv.FormatInt(drip, 10), "drip",
		"2:q10/day@0.0", "old", "2:q10/day!d@0.0", "old", "2:w10/18000s@0.0", "old", "1:10/60s^10@0.0", "old",
		" AND (attribute_not_exists(o1) OR o1 <> 0000000000000002) AND (attribute_not_exists(o2) OR o2 <> 0000000000000002)", "",
		", o2 = if_not_exists(o1, 0000000000000000), o1 = if_not_exists(o, 0000000000000000)", "",
		"SET o2 = if_not_exists(o1, 0000000000000000), o1 = if_not_exists(o, 0000000000000000)", "",
	)
	for _, tt := range []struct {
		name      string
		known     *protocol.Record
		kind      coalesce.Kind
		charges   []zael.Charge
		condition string
		update    string
	}{
		{
			"new", nil, coalesce.Take, take(q, 5), "(attribute_not_exists(b) OR (d_q = old AND p_q <= since-1))",
			"SET p_q = since, u_q = 5, d_q = old ADD c_q 5",
		},
		{
			"another period", of(q, yesterday, 8), coalesce.Take, take(q, 5), "(attribute_not_exists(b) OR (d_q = old AND p_q <= since-1))",
			"SET p_q = since, u_q = 5, d_q = old ADD c_q 5",
		},
		{"the same period", of(q, day, 3), coalesce.Take, take(q, 5), "d_q = old AND p_q >= since AND u_q <= 5", "SET u_q = u_q + 5 ADD c_q 5"},
		{"it does not fit", of(q, day, 8), coalesce.Take, take(q, 5), "d_q = old AND p_q >= since AND u_q <= 5", "SET u_q = u_q + 5 ADD c_q 5"},
		// Trap 1: a row that sets what is used has no room.
		{"more than the amount", of(q, yesterday, 0), coalesce.Take, take(q, 11), "d_q = old AND p_q >= 1 AND p_q <= 0", "ADD c_q 11"},
		{"more than the amount, topped up", of(q, day, -5), coalesce.Take, take(q, 11), "d_q = old AND p_q >= since AND u_q <= -1", "SET u_q = u_q + 11 ADD c_q 11"},
		{"asked 0", of(q, day, 3), coalesce.Take, take(q, 0), "(attribute_not_exists(d_q) OR (d_q = old AND u_q <= 10))", ""},
		{"asked 0, the period is over", of(q, yesterday, 30), coalesce.Take, take(q, 0), "(attribute_not_exists(d_q) OR (d_q = old AND p_q <= since-1))", ""},
		{
			"carry debt, none", of(carry, yesterday, 3), coalesce.Take, take(carry, 5), "(attribute_not_exists(b) OR (d_q = old AND p_q <= since-1 AND u_q <= 10))",
			"SET p_q = since, u_q = 5, d_q = old ADD c_q 5",
		},
		// Trap 3: what writes the start bounds it from above.
		{"carry debt", of(carry, yesterday, 13), coalesce.Take, take(carry, 5), "d_q = old AND p_q = yesterday AND u_q >= 10 AND u_q <= 15", "SET p_q = since, u_q = u_q + -5 ADD c_q 5"},
		{"other amount", of(q, day, 3), coalesce.Take, take(quota(20, bucket.Daily, 0), 5), "d_q = old AND p_q >= since AND u_q <= 15", "SET u_q = u_q + 5, d_q = 2:q20/day@0.0 ADD c_q 5"},
		{
			"other calendar, period on", of(q, day, 3), coalesce.Take, take(quota(20, bucket.EachHour, 0), 5),
			"d_q = old AND p_q >= since AND p_q <= now-1 AND u_q >= 1 AND u_q <= 15", "SET p_q = now, u_q = u_q + 5, d_q = 2:q20/hour@0.1 ADD c_q 5",
		},
		{
			"other calendar, period over", of(q, yesterday, 3), coalesce.Take, take(quota(20, bucket.EachHour, 0), 5),
			"d_q = old AND p_q <= since-1", "SET p_q = now, u_q = 5, d_q = 2:q20/hour@0.1 ADD c_q 5",
		},
		{
			"rate to quota", of(rate, bucket.Instant(drip+2500), 0), coalesce.Take, take(q, 5), "d_q = old AND m_q = " + strconv.FormatInt(drip+2500, 10),
			"SET p_q = since, u_q = 8, d_q = 2:q10/day@0.1 ADD c_q 5 REMOVE m_q",
		},
		{
			"quota to rate", of(q, day, 3), coalesce.Take, take(rate, 5), "d_q = old AND p_q = since AND u_q = 3",
			"SET m_q = " + strconv.FormatInt(drip+8000, 10) + ", d_q = 1:10/60s^10@0.1 ADD c_q 5 REMOVE p_q, u_q",
		},
		{"give", of(q, day, 3), coalesce.Adjust, settle(q, -2, day), "d_q = old AND p_q = since AND b = the one known", "SET u_q = u_q + -2 ADD c_q -2"},
		{"settle above", of(q, day, 3), coalesce.Adjust, settle(q, 2, day), "d_q = old AND p_q = since AND u_q <= 9223372036854775805 AND b = the one known", "SET u_q = u_q + 2 ADD c_q 2"},
		// Traps 4 and 6: after the end a settle touches nothing, even if nobody has begun the next period.
		{"give after the end", of(q, yesterday, 3), coalesce.Adjust, settle(q, -2, yesterday), "d_q = old AND b = the one known", "ADD c_q -2"},
		{"settle after the end", of(q, yesterday, 3), coalesce.Adjust, settle(q, 2, yesterday), "d_q = old AND b = the one known", "ADD c_q 2"},
		{"session: new", nil, coalesce.Take, take(session, 5), "(attribute_not_exists(b) OR (d_q = old AND p_q <= now-5h))", "SET p_q = now, u_q = 5, d_q = old ADD c_q 5"},
		{
			"session: the same", of(session, now-bucket.Instant(time.Hour), 3), coalesce.Take, take(session, 5),
			"d_q = old AND p_q >= " + strconv.FormatInt(int64(now)-int64(5*time.Hour)+1, 10) + " AND u_q <= 5", "SET u_q = u_q + 5 ADD c_q 5",
		},
		{"unlimited", of(quota(10, bucket.Daily, bucket.Unlimited), day, 3), coalesce.Take, take(quota(10, bucket.Daily, bucket.Unlimited), 500), "d_q = 2:q10/day!u@0.0", "ADD c_q 500"},
		{"block, asked 0", of(quota(10, bucket.Daily, bucket.Block), day, 3), coalesce.Take, take(quota(10, bucket.Daily, bucket.Block), 0), "(attribute_not_exists(d_q) OR (d_q = 2:q10/day!b@0.0))", ""},
		{"soft", of(quota(10, bucket.Daily, bucket.Soft), day, 30), coalesce.Take, take(quota(10, bucket.Daily, bucket.Soft), 5), "d_q = 2:q10/day!s@0.0 AND p_q >= since AND u_q <= 9223372036854775802", "SET u_q = u_q + 5 ADD c_q 5, i_q 1"},
	} {
		w := newWrite(tt.kind, tt.charges, now, 2)
		w.NoExpiry = true
		w.Begin(observed(tt.known, now))
		plan := w.Plan()
		condition, update := readable(&plan.Update, math.MinInt64/2)
		condition, update = names.Replace(condition), strings.TrimSpace(strings.ReplaceAll(names.Replace(update), "  ", " "))
		if plan.Action != protocol.Send || condition != tt.condition || update != tt.update {
			t.Errorf("%s: got action %d,\n%s if %s, want\n%s if %s", tt.name, plan.Action, update, condition, tt.update, tt.condition)
		}
	}
}

// recordOfLimit returns an item that was made by write 1 and has one limit, q.
func recordOfLimit(t *testing.T, d bucket.Definition, mark, used int64) *protocol.Record {
	t.Helper()
	text := func(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }
	number := func(n int64) types.AttributeValue {
		return &types.AttributeValueMemberN{Value: strconv.FormatInt(n, 10)}
	}
	item := map[string]types.AttributeValue{"b": text(protocol.IDText(1)), "o": text(protocol.IDText(1)), "d_q": text(protocol.DefinitionText(d, 0))}
	if d.Kind == bucket.Rate {
		item["m_q"] = number(mark)
	} else {
		item["p_q"], item["u_q"] = number(mark), number(used)
	}
	r, err := recordOf(item)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
