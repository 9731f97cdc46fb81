package oncekey_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/oncekey"
	"github.com/zeroae/zael/internal/storearg"
)

// keys are kept in memory.
type keys map[string]oncekey.Kept

func (k keys) Kept(key, now string) (*oncekey.Kept, error) {
	if key == "broken" {
		return nil, errBroken
	}
	if kept, ok := k[key]; ok && kept.Until > now {
		return &kept, nil
	}
	return nil, nil //nolint:nilnil // it is not known
}

func (k keys) Keep(key, _ string, kept oncekey.Kept) error {
	k[key] = kept
	return nil
}

var errBroken = errors.New("broken")

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func take(t *testing.T, now time.Time, key, hash, unless string) *oncekey.Operation {
	t.Helper()
	o, err := oncekey.Take(now, &zael.OnceTake{
		Once: zael.Once{Key: key, Hash: hash, Until: now.Add(time.Hour)}, Unless: unless,
		Answer: func(at time.Time, debits []zael.Debit) []byte {
			return []byte(at.Format(time.TimeOnly) + debits[0].Holder)
		},
	}, storearg.Names{Longest: 9})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestPerform(t *testing.T) {
	t.Parallel()
	kept, debits, performed := keys{}, []zael.Debit{{Holder: "h"}}, 0
	var answer, broken error
	perform := func() (err, fatal error) {
		performed++
		return answer, broken
	}
	try := func(o *oncekey.Operation, want error, first string, made int) {
		t.Helper()
		performed = 0
		err, fatal := o.Perform(kept, debits, perform)
		if !errors.Is(errors.Join(err, fatal), want) || string(o.First) != first || performed != made {
			t.Errorf("got %v, %v, first %q, performed %d times; want %v, %q, %d", err, fatal, o.First, performed, want, first, made)
		}
	}
	answer = zael.ErrExceeded
	try(take(t, start, "key", "hash", ""), zael.ErrExceeded, "", 1)
	answer, broken = nil, errBroken
	try(take(t, start, "key", "hash", ""), errBroken, "", 1)
	broken = nil
	try(take(t, start, "key", "hash", ""), nil, "", 1) // a key of what failed is free
	try(take(t, start.Add(time.Minute), "key", "hash", ""), nil, "00:00:00h", 0)
	try(take(t, start.Add(time.Minute), "key", "other", ""), zael.ErrKeyUsed, "", 0)
	try(take(t, start.Add(time.Minute), "other", "hash", "key"), zael.ErrLeaseClosed, "", 0)
	try(take(t, start.Add(time.Minute), "", "", "key"), zael.ErrLeaseClosed, "", 0)
	try(take(t, start.Add(time.Hour), "", "", "key"), nil, "", 1)
	try(take(t, start.Add(time.Hour), "key", "other", ""), nil, "", 1) // its time is over
	try(take(t, start.Add(time.Hour), "broken", "", ""), errBroken, "", 0)
	try(take(t, start.Add(time.Hour), "new", "", "broken"), errBroken, "", 0)

	end, err := oncekey.Adjust(start, &zael.Once{Key: "end", Hash: "1", Until: start.Add(time.Hour)}, []byte("result"), storearg.Names{})
	if err != nil {
		t.Fatal(err)
	}
	try(end, nil, "", 1)
	again, err := oncekey.Adjust(start, &zael.Once{Key: "end", Hash: "2", Until: start.Add(time.Hour)}, []byte("other"), storearg.Names{})
	if err != nil {
		t.Fatal(err)
	}
	try(again, nil, "result", 0)
	debits = nil
	only, err := oncekey.Adjust(start, &zael.Once{Key: "alone", Until: start.Add(time.Hour)}, nil, storearg.Names{})
	if err != nil {
		t.Fatal(err)
	}
	try(only, nil, "", 0)
	if _, ok := kept["alone"]; !ok {
		t.Error("a key without debits was not kept")
	}
}

func TestArguments(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("n", 10)
	far := time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
	for field, once := range map[string]zael.OnceTake{
		"Once.Key": {Once: zael.Once{Key: long}}, "OnceTake.Unless": {Unless: long}, "Once.Until": {Once: zael.Once{Key: "n", Until: far}},
	} {
		_, err := oncekey.Take(start, &once, storearg.Names{Longest: 9})
		if invalid, ok := errors.AsType[*zael.ValidationError](err); !ok || invalid.Field != field {
			t.Errorf("got %v, want an error about %s", err, field)
		}
	}
	if _, err := oncekey.Take(far, &zael.OnceTake{}, storearg.Names{}); err == nil {
		t.Error("a time out of range: got no error")
	}
	if _, err := oncekey.Adjust(start, &zael.Once{}, nil, storearg.Names{}); err == nil {
		t.Error("an adjust without a key: got no error")
	}
	var none *oncekey.Operation
	if !none.GivenBack() || take(t, start, "key", "", "").GivenBack() || !take(t, start, "", "", "end").GivenBack() {
		t.Error("GivenBack: want true of what has no key, and false of the others")
	}
}
