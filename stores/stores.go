// Package stores opens a store by its URL.
package stores

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/awsconf"
	"github.com/zeroae/zael/internal/redact"
	"github.com/zeroae/zael/memstore"
	"github.com/zeroae/zael/postgresstore"
	"github.com/zeroae/zael/redisstore"
	"github.com/zeroae/zael/sqlitestore"
)

// A Store is a zael.Store that its opener closes.
type Store interface {
	zael.Store
	// Close lets go of what the store holds, when nobody uses it any more.
	Close(ctx context.Context) error
}

// Open opens the store that a URL names:
//
//	memory:                                   this process's memory, empty at first
//	memory:?max_buckets=100000&usage=true     with the settings of memstore.Config
//	sqlite:PATH                               a file, made if it is missing, for all processes
//	                                          of this machine; no character of PATH is special
//	dynamodb://NAME                           the table ZAEL-NAME, for any number of processes
//	dynamodb://NAME?region=eu-central-1&namespace=team-a&endpoint=http://127.0.0.1:8000
//
//	redis://HOST:6379/DB?namespace=team-a     Redis or Valkey, rediss:// with TLS, and
//	                                          redis+sentinel:// and redis+cluster://: see redisstore.Open
//
//	postgres://USER@HOST:5432/DATABASE?namespace=team-a
//	                                          PostgreSQL, in tables of zael table create: see postgresstore.Open
//
// Further settings of dynamodb: are usage=true (an aggregator counts usage),
// count_units=true (the table is asked what each call costs) and virtual_time=true
// (instants are the caller's, and nothing expires). Region and credentials are the
// user's, as all programs that use AWS find them; at an endpoint of this machine they
// may be missing. Opening asks nothing of the table.
//
// Redis and PostgreSQL are asked nothing, either. They have virtual_time, too.
//
// The error of a URL that is wrong is a *zael.ValidationError, which shows no password; others are those
// of opening the store, see sqlitestore.Open.
func Open(ctx context.Context, address string) (Store, error) {
	scheme, rest, ok := strings.Cut(address, ":")
	switch {
	case !ok:
		return nil, bad(address, `is not a store's URL: write it like "memory:", "sqlite:PATH", "dynamodb://NAME", "redis://HOST" or "postgres://HOST/DATABASE"`)
	case scheme == "memory":
		return openMemory(address, rest)
	case scheme == "sqlite":
		if rest == "" {
			return nil, bad(address, `names no file: write it like "sqlite:/var/lib/zael.db"`)
		}
		return opened(sqlitestore.Open(ctx, rest, nil))
	case redisstore.IsScheme(scheme):
		return opened(redisstore.Open(address))
	case postgresstore.IsScheme(scheme):
		return opened(postgresstore.Open(address))
	case scheme == "dynamodb":
		a, err := awsconf.Parse(address)
		if err != nil {
			return nil, err
		}
		return opened(a.Open(ctx))
	}
	return nil, bad(address, fmt.Sprintf(`names an unknown kind of store, %q: use "memory:", "sqlite:PATH", "dynamodb://NAME", "redis://HOST" or "postgres://HOST/DATABASE"`, scheme))
}

// Redact returns a store's URL as it may be shown: with *** for a password, also if it is no valid
// URL.
func Redact(address string) string { return redact.URL(address) }

// opened keeps a nil pointer from becoming a Store that is not nil.
func opened[S Store](s S, err error) (Store, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

func bad(address, reason string) error {
	return &zael.ValidationError{Field: "store", Value: Redact(address), Reason: reason}
}

func openMemory(address, rest string) (Store, error) {
	path, query, _ := strings.Cut(rest, "?")
	if path != "" {
		return nil, bad(address, fmt.Sprintf(`has %q where only settings may stand: write it like "memory:" or "memory:?usage=true"`, path))
	}
	settings, err := url.ParseQuery(query)
	if err != nil {
		return nil, bad(address, "has settings that cannot be read: "+err.Error())
	}
	var config memstore.Config
	for name, values := range settings {
		value := values[len(values)-1]
		switch name {
		case "max_buckets":
			config.MaxBuckets, err = strconv.Atoi(value)
			if err != nil || config.MaxBuckets < 0 {
				return nil, bad(address, fmt.Sprintf("has max_buckets=%q, which is not a whole number from 0", value))
			}
		case "usage":
			if config.Usage, err = strconv.ParseBool(value); err != nil {
				return nil, bad(address, fmt.Sprintf("has usage=%q, which is not true or false", value))
			}
		default:
			return nil, bad(address, fmt.Sprintf("has an unknown setting, %q: there are max_buckets and usage", name))
		}
	}
	return memstore.New(&config), nil
}
