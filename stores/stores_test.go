package stores_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/stores"
)

func TestOpenMemory(t *testing.T) {
	t.Parallel()
	for address, usage := range map[string]bool{
		"memory:": false, "memory:?usage=true": true, "memory:?usage=false&max_buckets=7": false,
	} {
		store, err := stores.Open(t.Context(), address)
		if err != nil {
			t.Fatalf("Open(%q): got %v, want nil", address, err)
		}
		l, err := zael.New(store, &zael.Config{Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		_, err = l.Usage(t.Context(), zael.UsageQuery{Entity: "a"})
		if counted := !errors.Is(err, errors.ErrUnsupported); counted != usage {
			t.Errorf("Open(%q): usage counted: got %v (%v), want %v", address, counted, err, usage)
		}
		if err := store.Close(t.Context()); err != nil {
			t.Errorf("Close: got %v, want nil", err)
		}
	}
}

func TestOpenSQLite(t *testing.T) {
	t.Parallel()
	address := "sqlite:" + filepath.Join(t.TempDir(), "a b?c%20#d.db")
	for _, want := range []error{nil, zael.ErrExceeded} { // opened again, the bucket is as it was
		store, err := stores.Open(t.Context(), address)
		if err != nil {
			t.Fatalf("Open(%q): got %v, want nil", address, err)
		}
		l, err := zael.New(store, &zael.Config{Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		err = l.Allow(t.Context(), zael.Request{
			Entity: "a", Resource: "r", Limits: []zael.Limit{zael.PerDay("rpd", 1)}, Consume: zael.Amounts{"rpd": 1},
		})
		if !errors.Is(err, want) {
			t.Errorf("Allow: got %v, want %v", err, want)
		}
		if err := store.Close(t.Context()); err != nil {
			t.Errorf("Close: got %v, want nil", err)
		}
	}
	store, err := stores.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "missing", "a.db"))
	if err == nil || store != nil {
		t.Errorf("Open in a missing directory: got %v and %v, want no store and an error", store, err)
	}
}

func TestMaxBucketsBinds(t *testing.T) {
	t.Parallel()
	store, err := stores.Open(t.Context(), "memory:?max_buckets=1")
	if err != nil {
		t.Fatal(err)
	}
	l, err := zael.New(store, &zael.Config{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	req := zael.Request{Entity: "a", Resource: "r", Limits: []zael.Limit{zael.PerMinute("rpm", 1)}, Consume: zael.Amounts{"rpm": 1}}
	if err := l.Allow(t.Context(), req); err != nil {
		t.Errorf("the first entity: got %v, want nil", err)
	}
	req.Entity = "b"
	if err := l.Allow(t.Context(), req); !errors.Is(err, zael.ErrUnavailable) {
		t.Errorf("the second entity: got %v, want ErrUnavailable", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for address, reason := range map[string]string{
		"":                        "not a store's URL",
		"memory":                  "not a store's URL",
		"memory:x":                `has "x"`,
		"memory:?usage=maybe":     `usage="maybe"`,
		"memory:?max_buckets=-1":  `max_buckets="-1"`,
		"memory:?max_buckets=few": `max_buckets="few"`,
		"memory:?size=1":          `unknown setting, "size"`,
		"memory:?%zz":             "cannot be read",
		"sqlite:":                 "names no file",
		"dynamodb://":             `has a name, "", that is empty`,
		"dynamodb:app":            "is not a store in DynamoDB",
		"redis://me:s3cret@":      "names no host",
		"postgres://me:s3cret@h":  "names no database",
		"mysql://me:s3cret@h":     `unknown kind of store, "mysql"`,
		"dynamodb://me:s3cret@h":  `has a name, "me:***@h"`,
		"me:s3cret@h":             `unknown kind of store, "me"`,
		"postgres:me:s3cret@h/db": "is no URL of PostgreSQL",
		"redis:/me:s3cret@h":      "is no URL of Redis",
	} {
		_, err := stores.Open(t.Context(), address)
		var v *zael.ValidationError
		if !errors.As(err, &v) || v.Field != "store" || !strings.Contains(err.Error(), reason) {
			t.Errorf("Open(%q): got %v, want a *ValidationError of store that says %q", address, err, reason)
		} else if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("Open(%q): the error shows the password: %v", address, err)
		}
	}
}

func ExampleOpen() {
	ctx := context.Background()
	store, err := stores.Open(ctx, "memory:")
	if err != nil {
		panic(err)
	}
	defer store.Close(ctx)
	l, err := zael.New(store, &zael.Config{Timeout: time.Minute})
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Allow(ctx, zael.Request{
		Entity: "key-1", Resource: "gpt-4", Limits: []zael.Limit{zael.PerMinute("rpm", 100)},
		Consume: zael.Amounts{"rpm": 1},
	}))
	_, err = stores.Open(ctx, "mysql://me:secret@localhost")
	fmt.Println(err)
	// Output:
	// <nil>
	// zael: store "mysql://me:***@localhost" names an unknown kind of store, "mysql": use "memory:", "sqlite:PATH", "dynamodb://NAME", "redis://HOST" or "postgres://HOST/DATABASE"
}
