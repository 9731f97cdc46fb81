package protocol_test

import (
	"cmp"
	"fmt"
	"slices"
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

// The rows of the table in docs/dynamodb.md: what is written of a limit, by what is known of
// it. Numbers near the drip are written as their distance from it, in units.
func TestRows(t *testing.T) {
	t.Parallel()
	const now = bucket.Instant(400 * 24 * time.Hour)
	d := bucket.Definition{Burst: 100, Amount: 100, Period: time.Minute, Capacity: 100}
	smaller := bucket.Definition{Burst: 50, Amount: 100, Period: time.Minute, Capacity: 50}
	whole := bucket.Definition{Burst: 3_000_000, Amount: 2_000_000, Period: time.Second, Capacity: 2_000_000}
	drip := d.Drip(now)
	level := func(tokens int64) *protocol.Record { return recordWith(t, d, drip+tokens*1000) }
	receipt := func(tokens int64) bucket.Receipt { return bucket.Receipt{Mark: drip + tokens*1000, Generation: 1} }
	take := func(d bucket.Definition, n int64) []zael.Charge {
		return []zael.Charge{{Name: "rpm", Definition: d, Amount: n}}
	}
	give := func(n int64, r bucket.Receipt) []zael.Charge {
		return []zael.Charge{{Name: "rpm", Definition: d, Amount: -n, Receipt: r}}
	}
	for _, tt := range []struct {
		name      string
		known     *protocol.Record
		kind      coalesce.Kind
		charges   []zael.Charge
		condition string
		update    string
	}{
		{
			"idle, or the item is new", nil, coalesce.Take, take(d, 5),
			"(attribute_not_exists(b) OR (d_rpm = old AND m_rpm <= drip))",
			"SET m_rpm = drip+5000, d_rpm = old ADD c_rpm 5",
		},
		{
			"idle", level(-3), coalesce.Take, take(d, 5),
			"(attribute_not_exists(b) OR (d_rpm = old AND m_rpm <= drip))",
			"SET m_rpm = drip+5000, d_rpm = old ADD c_rpm 5",
		},
		{
			"new in an item that is known", recordWith(t, d, 0), coalesce.Take,
			[]zael.Charge{{Name: "new", Definition: d, Amount: 5}},
			"(attribute_not_exists(d_new) OR (d_new = old AND m_new <= drip)) AND attribute_not_exists(r)",
			"SET m_new = drip+5000, d_new = old ADD c_new 5",
		},
		{
			"busy", level(20), coalesce.Take, take(d, 5),
			"d_rpm = old AND m_rpm >= drip AND m_rpm <= drip+95000",
			"SET m_rpm = m_rpm + 5000 ADD c_rpm 5",
		},
		{
			"busy, and it does not fit", level(99), coalesce.Take, take(d, 5),
			"d_rpm = old AND m_rpm >= drip AND m_rpm <= drip+95000",
			"SET m_rpm = m_rpm + 5000 ADD c_rpm 5",
		},
		{
			"asked 0", level(20), coalesce.Take, take(d, 0),
			"(attribute_not_exists(d_rpm) OR (d_rpm = old AND m_rpm <= drip+100000))",
			"",
		},
		{
			"changed definition, idle", level(-3), coalesce.Take, take(smaller, 5),
			"d_rpm = old AND m_rpm <= drip",
			"SET m_rpm = drip+5000, d_rpm = 1:100/60s^50@0.1 ADD c_rpm 5",
		},
		{
			"changed definition, busy", level(20), coalesce.Take, take(smaller, 5),
			"d_rpm = old AND m_rpm >= drip AND m_rpm <= drip+45000",
			"SET m_rpm = m_rpm + 5000, d_rpm = 1:100/60s^50@0.1 ADD c_rpm 5",
		},
		{
			"other unit", level(20), coalesce.Take, take(whole, 5),
			"d_rpm = old AND m_rpm = drip+20000",
			"SET m_rpm = 69120000000025, d_rpm = 1:2000000/1s^3000000@0.1 ADD c_rpm 5",
		},
		{
			"charge, idle", level(-3), coalesce.Adjust, take(d, 5),
			"(attribute_not_exists(b) OR (d_rpm = old AND m_rpm <= drip))",
			"SET m_rpm = drip+5000, d_rpm = old ADD c_rpm 5",
		},
		{
			"charge, busy", level(20), coalesce.Adjust, take(d, 5),
			"d_rpm = old AND m_rpm >= drip AND m_rpm <= drip+125000",
			"SET m_rpm = m_rpm + 5000 ADD c_rpm 5",
		},
		{
			"give", level(20), coalesce.Adjust, give(5, receipt(20)),
			"d_rpm = old AND m_rpm >= drip+5000 AND b = the one known",
			"SET m_rpm = m_rpm + -5000 ADD c_rpm -5",
		},
		{
			"give, partly refilled", level(20), coalesce.Adjust, give(5, receipt(2)),
			"d_rpm = old AND m_rpm >= drip+2000 AND b = the one known",
			"SET m_rpm = m_rpm + -2000 ADD c_rpm -5",
		},
		{
			"give down to the drip", level(3), coalesce.Adjust, give(5, receipt(20)),
			"d_rpm = old AND m_rpm >= drip+1 AND m_rpm <= drip+5000 AND b = the one known",
			"SET m_rpm = drip ADD c_rpm -5",
		},
		{
			"give what has refilled", level(-3), coalesce.Adjust, give(5, receipt(20)),
			"d_rpm = old AND m_rpm <= drip AND b = the one known",
			"ADD c_rpm -5",
		},
		{
			"place in line", level(120), coalesce.Adjust, give(5, receipt(120)),
			"d_rpm = old AND m_rpm = drip+120000 AND b = the one known",
			"SET m_rpm = drip+115000 ADD c_rpm -5",
		},
		{
			"place in line, another behind it", level(130), coalesce.Adjust, give(5, receipt(120)),
			"d_rpm = old AND m_rpm >= drip+120001 AND b = the one known",
			"ADD c_rpm -5",
		},
	} {
		w := newWrite(tt.kind, tt.charges, now, 2)
		w.NoExpiry = true
		w.Begin(observed(tt.known, now))
		plan := w.Plan()
		condition, update := readable(&plan.Update, drip)
		if plan.Action != protocol.Send || condition != tt.condition || update != tt.update {
			t.Errorf("%s: got action %d,\n%s if %s, want\n%s if %s", tt.name, plan.Action, update, condition, tt.update, tt.condition)
		}
	}
}

// recordWith returns an item that was made by write 1 and has one limit.
func recordWith(t *testing.T, d bucket.Definition, mark int64) *protocol.Record {
	t.Helper()
	text := func(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }
	number := func(n int64) types.AttributeValue {
		return &types.AttributeValueMemberN{Value: strconv.FormatInt(n, 10)}
	}
	r, err := recordOf(map[string]types.AttributeValue{
		"b": text(protocol.IDText(1)), "o": text(protocol.IDText(1)),
		"m_rpm": number(mark), "d_rpm": text(protocol.DefinitionText(d, 0)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// readable returns the condition and the update of the only limit of a write, with names and
// values in place of their placeholders.
func readable(u *protocol.Update, drip int64) (condition, update string) {
	var pairs []string
	placeholders := make([]protocol.Binding, 0, len(u.Values)+len(u.Names))
	for _, b := range u.Values {
		text := b.Value.Text
		if n, err := strconv.ParseInt(text, 10, 64); err == nil && b.Value.IsNumber && max(n-drip, drip-n) <= 200_000 {
			text = "drip"
			if n != drip {
				text = fmt.Sprintf("drip%+d", n-drip)
			}
		}
		placeholders = append(placeholders, protocol.Binding{Placeholder: b.Placeholder, Value: protocol.Value{Text: text}})
	}
	for placeholder, name := range u.Names {
		placeholders = append(placeholders, protocol.Binding{Placeholder: placeholder, Value: protocol.Value{Text: name}})
	}
	slices.SortFunc(placeholders, func(a, b protocol.Binding) int { // the longest first
		return cmp.Or(len(b.Placeholder)-len(a.Placeholder), strings.Compare(a.Placeholder, b.Placeholder))
	})
	for _, p := range placeholders {
		pairs = append(pairs, p.Placeholder, p.Value.Text)
	}
	replace := strings.NewReplacer(pairs...).Replace
	same := strings.NewReplacer( // in all writes, or in all that make the item
		" AND (attribute_not_exists(o) OR o <> 0000000000000002)", "", " AND attribute_not_exists(x)", "",
		", o = 0000000000000002", "", "SET o = 0000000000000002", "",
		", b = if_not_exists(b, 0000000000000002), GSI1PK = R#r#0, GSI1SK = e", "",
		"ADD v 1", "", ", v 1", "", ", e 1", "",
		" AND b = 0000000000000001", " AND b = the one known", "1:100/60s^100@0.0", "old",
	).Replace
	return same(replace(u.Condition)), strings.TrimSpace(same(replace(u.Update)))
}
