package postgresstore_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/certificates"
	"github.com/zeroae/zael/internal/testrig/pgtest"
	"github.com/zeroae/zael/postgresstore"
)

// openURL opens a store by its URL, and closes it with the test.
func openURL(t *testing.T, url string) *postgresstore.Store {
	t.Helper()
	s, err := postgresstore.Open(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

// What a server refuses is told as it is, is not taken for its absence, and shows no password.
func TestRefusals(t *testing.T) {
	t.Parallel()
	authority, stranger := certificates.New(t), certificates.New(t)
	files := authority.Issue("127.0.0.1")
	certificate, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		t.Fatal(err)
	}
	server := pgtest.Start(t, pgtest.Options{}) // whose roles are no other test's
	url := server.URL("postgres")
	createTables(t, url)
	w := newTLSWire(t, server.Address(), &tls.Config{Certificates: []tls.Certificate{certificate}})
	secure := strings.Replace(url, server.Address(), w.address(), 1)
	server.Exec(t, "CREATE ROLE app LOGIN PASSWORD 's3cret'", "CREATE ROLE reader LOGIN PASSWORD 's3cret' IN ROLE zael_read",
		"CREATE ROLE frozen LOGIN PASSWORD 's3cret' IN ROLE zael_acquire", "ALTER ROLE frozen SET default_transaction_read_only = on")
	as := func(user string) string { return strings.Replace(url, "postgres@", user+":s3cret@", 1) }
	for _, tt := range []struct {
		name, url, want string
		unavailable     bool
	}{
		{"password", strings.Replace(as("app"), "s3cret", "s3cret-too", 1), "password authentication failed", false},
		{"no rights", as("app"), "grant zael_acquire", false},
		{"rights to read", as("reader"), "grant zael_acquire", false},
		{"read-only", as("frozen"), "name the primary", true},
		{"no database", strings.TrimSuffix(url, "postgres") + "nothing", "create it, or name another one", false},
		{"no tables", url + "?schema=other", `run "zael table create"`, false},
		{"unknown authority", secure + "?sslmode=verify-full&sslrootcert=" + stranger.Issue("x").CA, "certificate", false},
	} {
		_, err := openURL(t, tt.url).Take(t.Context(), t0, 0, ask(1))
		if err == nil || !strings.Contains(err.Error(), tt.want) || errors.Is(err, zael.ErrUnavailable) != tt.unavailable {
			t.Errorf("%s: got %v, want an error that says %q, and ErrUnavailable: %t", tt.name, err, tt.want, tt.unavailable)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: the error shows the password: %v", tt.name, err)
		}
	}
	if _, err := openURL(t, secure+"?sslmode=verify-full&sslrootcert="+files.CA).Take(t.Context(), t0, 0, ask(1)); err != nil {
		t.Errorf("with the server's authority: %v", err)
	}
	if _, err := openURL(t, url+"?sslmode=require").Take(t.Context(), t0, 0, ask(1)); err == nil || errors.Is(err, zael.ErrUnavailable) {
		t.Errorf("TLS of a server that has none: got %v, want an error that is not ErrUnavailable", err)
	}
}

// Programs that make the tables at once agree, and what is there stays.
func TestCreateTablesAtOnce(t *testing.T) {
	t.Parallel()
	url := engine.Database(t)
	errs := make([]error, 8)
	var wg sync.WaitGroup
	for i := range errs {
		s := open(t, url, &postgresstore.Config{Migrate: i%2 == 0})
		wg.Go(func() {
			if i%2 == 0 {
				_, errs[i] = s.Take(t.Context(), t0, 0, ask(1))
				return
			}
			errs[i] = s.CreateTables(t.Context(), postgresstore.CreateOptions{Unlogged: true})
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	s := open(t, url, nil)
	if err := s.CreateTables(t.Context(), postgresstore.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, b, err := s.Buckets(t.Context(), t0, []zael.Key{sharedKey}); err != nil || b[0].Limits[0].State.Available(mustAt(t, t0)) != 996 {
		t.Errorf("got %v and %v, want a bucket with 996 left", b, err)
	}
}

// The tables of a newer program, and of another schema, are let be.
func TestSchemas(t *testing.T) {
	t.Parallel()
	url := engine.Database(t)
	createTables(t, url)
	other := open(t, url, &postgresstore.Config{Schema: `odd "name".`})
	if err := other.CreateTables(t.Context(), postgresstore.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Take(t.Context(), t0, 0, ask(7)); err != nil {
		t.Fatal(err)
	}
	if _, b, err := open(t, url, nil).Buckets(t.Context(), t0, []zael.Key{sharedKey}); err != nil || len(b[0].Limits) > 0 {
		t.Errorf("the other schema: got %v and %v, want no bucket", b, err)
	}
	if _, err := connect(t, url).Exec(t.Context(), "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"); err != nil {
		t.Fatal(err)
	}
	latin := open(t, url[:strings.LastIndexByte(url, '/')]+"/latin", nil)
	if err := latin.CreateTables(t.Context(), postgresstore.CreateOptions{}); err == nil || !strings.Contains(err.Error(), "UTF8") {
		t.Errorf("CreateTables in Latin 1: got %v, want that the encoding is not UTF8", err)
	}
	if _, err := connect(t, url).Exec(t.Context(), "UPDATE zael.version SET version = 99"); err != nil {
		t.Fatal(err)
	}
	newer := open(t, url, &postgresstore.Config{Migrate: true})
	if _, err := newer.Take(t.Context(), t0, 0, ask(1)); !errors.Is(err, postgresstore.ErrNoTables) || !strings.Contains(fmt.Sprint(err), "update the program") {
		t.Errorf("tables of a newer version: got %v, want that the program is to be updated", err)
	}
	if err := newer.CreateTables(t.Context(), postgresstore.CreateOptions{}); err == nil || !strings.Contains(err.Error(), "update the program") {
		t.Errorf("CreateTables: got %v, want that the program is to be updated", err)
	}
}

// Names that no index holds are refused, and not those of others that go into the same statement.
func TestLongNames(t *testing.T) {
	t.Parallel()
	s := open(t, sharedURL(t), &postgresstore.Config{Namespace: newNamespace(), Usage: true})
	for _, n := range []int{800, 801} {
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				debits := askPlenty("a", 1, false)
				if i == 0 {
					long := strings.Repeat("é", n/2) + strings.Repeat("e", n%2)
					debits[0].Key = zael.Key{Entity: long, Resource: long}
					debits[0].Charges[0].Name = long
				}
				_, err := s.Take(t.Context(), t0.Add(time.Duration(n-800)*time.Hour), 0, debits)
				var v *zael.ValidationError
				if refused := errors.As(err, &v); refused != (i == 0 && n == 801) || !refused && err != nil {
					t.Errorf("names of %d bytes, caller %d: got %v", n, i, err)
				}
			})
		}
		wg.Wait()
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"mysql://h/d":               "is no URL of PostgreSQL",
		"postgres:h/d":              "is no URL of PostgreSQL",
		"postgres:///d":             "names no host",
		"postgres://h,/d":           "names no host",
		"postgres://me:s3cret@,h/d": "names no host",
		"postgres://me:s3cret@h/d?target_session_attrs=maybe":        "target_session_attrs",
		"postgres://me:s3cret@h":                                     "names no database",
		"postgres://me:s3cret@h/":                                    "names no database",
		"postgres://me:s3%ret@h/d":                                   "write special characters as %XX",
		"postgres://me:s3cret@h/d#x":                                 "has a #",
		"postgres://me:s3cret@h:port/d":                              "cannot be read",
		"postgres://me:s3cret@h/d?nonsense=1":                        `unknown setting, "nonsense"`,
		"postgres://me:s3cret@h/d?password=s3cre":                    `unknown setting, "password"`,
		"postgres://me:s3cret@h/d?pool=1":                            `pool="1", which is not in 2 to 1000`,
		"postgres://me:s3cret@h/d?pool=":                             `pool="", which is not in 2 to 1000`,
		"postgres://me:s3cret@h/d?usage=perhaps":                     `usage="perhaps", which is not true or false`,
		"postgres://me:s3cret@h/d?durability=all":                    `durability="all", which is not on, off or unlogged`,
		"postgres://me:s3cret@h/d?namespace=a/b":                     "Namespace",
		"postgres://me:s3cret@h/d?sslmode=maybe":                     "sslmode",
		"postgres://me:s3cret@h/d?sslrootcert=/x":                    "CA file",
		"postgres://me:s3cret@h/d?%zz":                               "has settings that cannot be read",
		"postgres://me:s3cret@h/d?schema=" + strings.Repeat("s", 64): "Schema",
	} {
		_, err := postgresstore.Open(url)
		var v *zael.ValidationError
		if !errors.As(err, &v) || !strings.Contains(err.Error(), want) {
			t.Errorf("Open(%q): got %v, want a *ValidationError that says %q", url, err, want)
		} else if strings.Contains(err.Error(), "s3cre") {
			t.Errorf("Open(%q): the error shows the password: %v", url, err)
		}
	}
	for _, url := range []string{
		"postgresql://h/d?pool=2&durability=off&usage=true&namespace=a&schema=b&migrate=true&virtual_time=true", "postgres://[::1]:5433/d?sslmode=disable",
	} {
		openURL(t, url)
	}
}

// A server whose transactions are serializable by default makes writers fail that meet: no caller
// learns of it.
func TestSerializableByDefault(t *testing.T) {
	t.Parallel()
	url := engine.Database(t)
	createTables(t, url)
	if _, err := connect(t, url).Exec(t.Context(), "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = serializable', current_database()); END $$"); err != nil {
		t.Fatal(err)
	}
	stores := []*postgresstore.Store{open(t, url, nil), open(t, url, nil), open(t, url, nil)}
	errs := make([]error, 12)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { _, errs[i] = takeAndGive(t.Context(), stores[i%3], []string{"a", "b"}[i%2], i%4 == 0) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if got := used(t, stores[0], "a", "b"); got != 12*40 {
		t.Errorf("%d tokens are taken, want %d", got, 12*40)
	}
}
