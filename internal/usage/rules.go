package usage

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/schema"
)

// CountingRules say how usage is counted; a zero field is not known. All who count a
// table must use the same windows, or some changes are missing from some windows.
type CountingRules struct {
	Windows string // in the form of FormatWindows
	Days    int    // how long usage is kept after its window
}

// Or returns r with the fields that are not known taken from others, in order.
func (r CountingRules) Or(others ...CountingRules) CountingRules {
	for _, o := range others {
		r.Windows, r.Days = cmp.Or(r.Windows, o.Windows), cmp.Or(r.Days, o.Days)
	}
	return r
}

// Config returns a Config with these rules.
func (r CountingRules) Config() (config Config, err error) {
	if r.Windows != "" {
		if config.Windows, err = ParseWindows(r.Windows); err != nil {
			return config, fmt.Errorf("windows: %w", err)
		}
	}
	if r.Days != 0 {
		if config.Retention, err = ParseDays(strconv.Itoa(r.Days)); err != nil {
			return config, fmt.Errorf("retention: %w", err)
		}
	}
	return config, nil
}

// Rules returns the rules by which c counts.
func (c *Counter) Rules() CountingRules {
	return CountingRules{FormatWindows(c.config.Windows), int(c.config.Retention / day)}
}

// FormatWindows returns windows as a list that ParseWindows reads, always in the same
// order.
func FormatWindows(windows []zael.Window) string {
	var words []string
	for _, w := range []zael.Window{zael.Hourly, zael.Daily, zael.Monthly} {
		if slices.Contains(windows, w) {
			words = append(words, string(w))
		}
	}
	return strings.Join(words, ",")
}

// ParseWindows reads a list like "hourly,daily".
func ParseWindows(text string) ([]zael.Window, error) {
	var windows []zael.Window
	for word := range strings.SplitSeq(text, ",") {
		w := zael.Window(strings.TrimSpace(word))
		switch {
		case w != zael.Hourly && w != zael.Daily && w != zael.Monthly:
			return nil, fmt.Errorf("%q is not hourly, daily or monthly, separated by commas", word)
		case slices.Contains(windows, w):
			return nil, fmt.Errorf("%s is repeated", w)
		}
		windows = append(windows, w)
	}
	return windows, nil
}

// ParseDays reads for how many days usage is kept.
func ParseDays(text string) (time.Duration, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > int(maxRetention/day) {
		return 0, fmt.Errorf("%q is not a number of days from 1 to %d", text, maxRetention/day)
	}
	return time.Duration(n) * day, nil
}

// getter is what FunctionRules uses of *dynamodb.Client.
type getter interface {
	GetItem(context.Context, *dynamodb.GetItemInput, ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error)
}

// FunctionRules returns the rules of the Lambda function that counts a table, as its
// version record has them; zero if there is no function, or no record.
func FunctionRules(ctx context.Context, client getter, table string) (CountingRules, error) {
	out, err := client.GetItem(ctx, &dynamodb.GetItemInput{
		TableName: aws.String(table), ConsistentRead: aws.Bool(true),
		Key: schema.SystemKey(schema.VersionKey),
	})
	if err != nil {
		return CountingRules{}, fmt.Errorf("reading the version record of %s: %w", table, err)
	}
	r := CountingRules{Windows: schema.TextIn(out.Item, schema.RecordWindows)}
	if text := schema.TextIn(out.Item, schema.RecordRetention); text != "" {
		kept, err := ParseDays(text)
		if err != nil {
			return CountingRules{}, fmt.Errorf("the version record of %s: %s: %w", table, schema.RecordRetention, err)
		}
		r.Days = int(kept / day)
	}
	if r.Windows != "" {
		windows, err := ParseWindows(r.Windows)
		if err != nil {
			return CountingRules{}, fmt.Errorf("the version record of %s: %s: %w", table, schema.RecordWindows, err)
		}
		r.Windows = FormatWindows(windows)
	}
	return r, nil
}
