//go:build unix

package main_test

import (
	"fmt"
	"maps"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	limits "github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/schema"
)

// function writes the rules of a stack's function into the version record.
func (b *usageBench) function(windows, days string) {
	b.t.Helper()
	item := map[string]types.AttributeValue{
		"PK": schema.Text("SYSTEM"), "SK": schema.Text(schema.VersionKey), "schema_version": schema.Text("1.0.0"), "client_min_version": schema.Text("v0.0.0"),
		schema.RecordWindows: schema.Text(windows), schema.RecordRetention: schema.Text(days),
	}
	if _, err := b.client.PutItem(b.t.Context(), &dynamodb.PutItemInput{TableName: aws.String(b.table), Item: item}); err != nil {
		b.t.Fatal(err)
	}
}

// counting returns how usage was counted, such as "hourly,monthly 400", and deletes it.
func (b *usageBench) counting(entity string) string {
	b.t.Helper()
	out, err := b.client.Query(b.t.Context(), &dynamodb.QueryInput{
		TableName: aws.String(b.table), KeyConditionExpression: aws.String("PK = :pk"),
		ExpressionAttributeValues: map[string]types.AttributeValue{":pk": schema.Text("U#" + entity)},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	windows, days := map[limits.Window]bool{}, map[int]bool{}
	for _, it := range out.Items {
		_, w, start, err := schema.ParseUsageSort(schema.TextIn(it, "SK"))
		if err != nil {
			b.t.Fatal(err)
		}
		seconds, err := strconv.ParseInt(it["ttl"].(*types.AttributeValueMemberN).Value, 10, 64)
		if err != nil {
			b.t.Fatal(err)
		}
		_, end := w.Bounds(start)
		windows[w], days[int(time.Unix(seconds, 0).Sub(end)/(24*time.Hour))] = true, true
		_, err = b.client.DeleteItem(b.t.Context(), &dynamodb.DeleteItemInput{
			TableName: aws.String(b.table), Key: map[string]types.AttributeValue{"PK": it["PK"], "SK": it["SK"]},
		})
		if err != nil {
			b.t.Fatal(err)
		}
	}
	var text []string
	for _, w := range []limits.Window{limits.Hourly, limits.Daily, limits.Monthly} {
		if windows[w] {
			text = append(text, string(w))
		}
	}
	kept := strings.Trim(fmt.Sprint(slices.Collect(maps.Keys(days))), "[]")
	return strings.Join(text, ",") + " " + kept
}

// redrive and aggregate count by the rules of the program that counts the table.
func TestCountingRules(t *testing.T) {
	t.Parallel()
	b := newUsageBench(t)
	l := b.limiter()
	for range 3 {
		err := l.Allow(t.Context(), limits.Request{
			Entity: "key", Resource: "gpt-4", Limits: []limits.Limit{limits.PerMinute("rpm", 100)}, Consume: limits.Amounts{"rpm": 1},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	arn, shard, sequences := b.stream()
	q := &queueServer{hidden: map[string]bool{}, messages: map[string]string{}}
	server := httptest.NewServer(q)
	defer server.Close()
	message := fmt.Sprintf(`{"DDBStreamBatchInfo":{"shardId":%q,"startSequenceNumber":%q,"endSequenceNumber":%q,"streamArn":%q}}`,
		shard, sequences[0], sequences[len(sequences)-1], arn)
	for i, c := range []struct {
		windows, days string // of the function
		args          string
		code          int
		says          []string // on the error
		want          string
	}{
		{"", "", "redrive", 2, []string{"does not name the function's windows", "--windows"}, " "},
		{"", "", "redrive --windows daily,hourly", 0, nil, "hourly,daily 90"},
		{"hourly,monthly", "400", "redrive", 0, nil, "hourly,monthly 400"},
		{"hourly,monthly", "400", "redrive --retention 500 --windows monthly,hourly", 0, nil, "hourly,monthly 500"},
		{"hourly,monthly", "400", "redrive --windows hourly,daily", 2, []string{"--windows hourly,daily", "by hourly,monthly"}, " "},
		{"hourly,monthly", "many", "redrive", 1, []string{"retention_days", "many"}, " "},
		{"", "", "aggregate --once", 0, []string{"windows=hourly,daily retention_days=90"}, "hourly,daily 90"},
		{"daily,monthly", "400", "aggregate --once", 0, []string{"windows=daily,monthly retention_days=400"}, "daily,monthly 400"},
		{"daily,monthly", "400", "aggregate --once --windows hourly --retention 7", 0, []string{"the stack's function counts by other windows"}, "hourly 7"},
	} {
		b.function(c.windows, c.days)
		args := strings.Fields(c.args)
		if args[0] == "redrive" {
			q.change(func(m map[string]string) { clear(m); m[fmt.Sprint("batch ", i)] = message })
			args = append(args, "--queue", server.URL+"/123456789012/dead")
		} else {
			b.forget()
		}
		_, errs := b.run(c.code, nil, args...)
		for _, part := range c.says {
			if !strings.Contains(errs, part) {
				t.Errorf("%s, function %q: got the error %s, want %s in it", c.args, c.windows, errs, part)
			}
		}
		if got := b.counting("key"); got != c.want {
			t.Errorf("%s, function %q: got usage by %q, want %q", c.args, c.windows, got, c.want)
		}
	}

	// Without a function the rules are those of live workers.
	b.function("", "")
	b.forget()
	worker, _ := b.start("aggregate", "--windows", "monthly", "--lease", "1s")
	defer b.kill(worker)
	t.Log("until the worker has counted")
	for b.counting("key") != "monthly 90" {
		<-time.After(100 * time.Millisecond)
	}
	if _, errs := b.run(0, nil, "aggregate", "--once", "--lease", "1s"); !strings.Contains(errs, "windows=monthly retention_days=90") {
		t.Errorf("beside a worker: got %s, want its windows", errs)
	}
	if _, errs := b.run(1, nil, "aggregate", "--once", "--lease", "1s", "--windows", "daily"); !strings.Contains(errs, "counts by monthly, this one by daily") {
		t.Errorf("beside a worker, asked for others: got %s, want both named", errs)
	}
}

// forget lets the next worker begin at the oldest change.
func (b *usageBench) forget() {
	b.t.Helper()
	out, err := b.client.Query(b.t.Context(), &dynamodb.QueryInput{
		TableName: aws.String(b.table), KeyConditionExpression: aws.String("PK = :pk AND begins_with(SK, :sk)"),
		ExpressionAttributeValues: map[string]types.AttributeValue{":pk": schema.Text("SYSTEM"), ":sk": schema.Text(schema.ShardKey)},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	for _, it := range out.Items {
		_, err := b.client.DeleteItem(b.t.Context(), &dynamodb.DeleteItemInput{
			TableName: aws.String(b.table), Key: map[string]types.AttributeValue{"PK": it["PK"], "SK": it["SK"]},
		})
		if err != nil {
			b.t.Fatal(err)
		}
	}
}
