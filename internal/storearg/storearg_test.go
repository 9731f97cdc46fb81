package storearg_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
	"github.com/zeroae/zael/internal/storearg"
)

// about reports whether an error is a *zael.ValidationError of a field, or nil if that is "".
func about(err error, field string) bool {
	if field == "" {
		return err == nil
	}
	invalid, ok := errors.AsType[*zael.ValidationError](err)
	return ok && invalid.Field == field
}

func TestNames(t *testing.T) {
	t.Parallel()
	sqlite, postgres, redis := storearg.Names{NoZero: true}, storearg.Names{NoZero: true, Longest: 3}, storearg.Names{}
	for _, tc := range []struct {
		err   error
		field string
	}{
		{sqlite.Text("f", ""), ""},
		{sqlite.Text("f", "ü"), ""},
		{sqlite.Text("f", "a\x00"), "f"},
		{sqlite.Text("f", "a\xff"), "f"},
		{redis.Text("f", "a\x00"), ""},
		{redis.Text("f", "a\xff"), "f"},
		{postgres.Name("f", "abc"), ""},
		{postgres.Name("f", "abcd"), "f"},
		{postgres.Text("f", "abcd"), ""},
		{postgres.Key(zael.Key{Entity: "abc", Resource: "abc"}), ""},
		{postgres.Key(zael.Key{Entity: "abcd", Resource: "abc"}), "entity"},
		{postgres.Key(zael.Key{Entity: "abc", Resource: "abcd"}), "resource"},
		{sqlite.List(zael.ListQuery{Prefix: "a\x00"}), "prefix"},
		{sqlite.List(zael.ListQuery{After: "a\x00"}), "after"},
	} {
		if !about(tc.err, tc.field) {
			t.Errorf("got %v, want an error about %q", tc.err, tc.field)
		}
	}
}

func TestDebits(t *testing.T) {
	t.Parallel()
	rate := bucket.Definition{Burst: 1, Amount: 1, Period: time.Second, Capacity: 1}
	slots := bucket.Definition{Kind: bucket.Slots, Burst: 1, Period: time.Minute, Capacity: 1}
	for _, tc := range []struct {
		debit zael.Debit
		take  bool
		field string
	}{
		{zael.Debit{Charges: []zael.Charge{{Name: "n", Definition: rate, Amount: bucket.MaxAmount}}}, true, ""},
		{zael.Debit{Charges: []zael.Charge{{Name: "n", Definition: rate, Amount: bucket.MaxAmount + 1}}}, true, "amount of n"},
		{zael.Debit{Charges: []zael.Charge{{Name: "n", Definition: rate, Amount: -1}}}, true, "amount of n"},
		{zael.Debit{Charges: []zael.Charge{{Name: "n", Definition: rate, Amount: -1}}}, false, ""},
		{zael.Debit{Charges: []zael.Charge{{Name: "\xff"}}}, true, "limit"},
		{zael.Debit{Holder: "\xff"}, true, "holder"},
		{zael.Debit{Key: zael.Key{Resource: "\xff"}}, true, "resource"},
		{zael.Debit{Charges: []zael.Charge{{Name: "n", Amount: 1}}}, true, "limit n"},
		{zael.Debit{Charges: []zael.Charge{{Name: "n", Definition: bucket.Definition{Burst: 1, Amount: 1, Capacity: 1}, Amount: -1}}}, false, "limit n"},
		{zael.Debit{Charges: []zael.Charge{{Name: "n", Definition: slots, Amount: 1}}}, true, "Debit.Holder"},
		{zael.Debit{Charges: []zael.Charge{{Name: "n", Definition: slots}}}, true, ""},
		{zael.Debit{Charges: []zael.Charge{{Name: "n", Definition: slots, Amount: 1}}, Holder: "h"}, true, ""},
	} {
		if err := (storearg.Names{}).Debits([]zael.Debit{tc.debit}, tc.take, "file"); !about(err, tc.field) {
			t.Errorf("%+v, take %v: got %v, want an error about %q", tc.debit, tc.take, err, tc.field)
		}
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		config storearg.Config
		field  string
	}{
		{storearg.Config{}, ""},
		{storearg.Config{Namespace: strings.Repeat("n", 64), CallTimeout: 1, CachedBuckets: 1, Retention: 1}, ""},
		{storearg.Config{Namespace: strings.Repeat("n", 65)}, "Config.Namespace"},
		{storearg.Config{Namespace: "a b"}, "Config.Namespace"},
		{storearg.Config{CallTimeout: -1}, "Config.CallTimeout"},
		{storearg.Config{CachedBuckets: -1}, "Config.CachedBuckets"},
		{storearg.Config{Retention: -1}, "Config.Retention"},
	} {
		if err := tc.config.Validate(); !about(err, tc.field) {
			t.Errorf("%+v: got %v, want an error about %q", tc.config, err, tc.field)
		}
	}
}

func TestInvalidShortens(t *testing.T) {
	t.Parallel()
	err := storearg.Invalid("f", strings.Repeat("ü", 500), "is too long")
	if text := err.Error(); len(text) > 200 || !strings.Contains(text, "…") {
		t.Errorf("got %q, want a shortened value", text)
	}
}
