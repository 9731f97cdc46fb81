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

// A Counting is how usage is counted. What is not known is zero. All who count one
// change have to do it by the same windows, or some of them miss it.
type Counting struct {
	Windows string // in one order: see WindowsText
	Days    int    // for which it is kept
}

// Or is the Counting, and what is not known of it from others, by turns.
func (c Counting) Or(others ...Counting) Counting {
	for _, o := range others {
		c.Windows, c.Days = cmp.Or(c.Windows, o.Windows), cmp.Or(c.Days, o.Days)
	}
	return c
}

// Config is a Config that counts like that.
func (c Counting) Config() (config Config, err error) {
	if c.Windows != "" {
		if config.Windows, err = ParseWindows(c.Windows); err != nil {
			return config, fmt.Errorf("windows: %w", err)
		}
	}
	if c.Days != 0 {
		if config.Retention, err = ParseDays(strconv.Itoa(c.Days)); err != nil {
			return config, fmt.Errorf("retention: %w", err)
		}
	}
	return config, nil
}

// Counting is how the Counter counts.
func (c *Counter) Counting() Counting {
	return Counting{WindowsText(c.config.Windows), int(c.config.Retention / day)}
}

// WindowsText is what ParseWindows reads, in one order.
func WindowsText(windows []zael.Window) string {
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
			return nil, fmt.Errorf("%q is not hourly, daily or monthly, with commas between", word)
		case slices.Contains(windows, w):
			return nil, fmt.Errorf("%s is there twice", w)
		}
		windows = append(windows, w)
	}
	return windows, nil
}

// ParseDays reads how many days usage is kept.
func ParseDays(text string) (time.Duration, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > int(maxRetention/day) {
		return 0, fmt.Errorf("%q is not a number of days from 1 to %d", text, maxRetention/day)
	}
	return time.Duration(n) * day, nil
}

// getter is what Recorded uses of *dynamodb.Client.
type getter interface {
	GetItem(context.Context, *dynamodb.GetItemInput, ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error)
}

// Recorded is how the function of a table's stack counts, as the version record
// says; zero if there is no function, or no record.
func Recorded(ctx context.Context, client getter, table string) (Counting, error) {
	out, err := client.GetItem(ctx, &dynamodb.GetItemInput{
		TableName: aws.String(table), ConsistentRead: aws.Bool(true),
		Key: schema.SystemKey(schema.VersionKey),
	})
	if err != nil {
		return Counting{}, fmt.Errorf("reading the version record of %s: %w", table, err)
	}
	c := Counting{Windows: schema.TextIn(out.Item, schema.RecordWindows)}
	if text := schema.TextIn(out.Item, schema.RecordRetention); text != "" {
		kept, err := ParseDays(text)
		if err != nil {
			return Counting{}, fmt.Errorf("the version record of %s: %s: %w", table, schema.RecordRetention, err)
		}
		c.Days = int(kept / day)
	}
	if c.Windows != "" {
		windows, err := ParseWindows(c.Windows)
		if err != nil {
			return Counting{}, fmt.Errorf("the version record of %s: %s: %w", table, schema.RecordWindows, err)
		}
		c.Windows = WindowsText(windows)
	}
	return c, nil
}
