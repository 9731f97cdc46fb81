package cli_test

import (
	"strings"
	"testing"

	"github.com/zeroae/zael/internal/testrig/pgtest"
)

// Commands work on a store in PostgreSQL, whose tables "table create" makes, with a password that no
// output shows.
func TestPostgres(t *testing.T) {
	t.Parallel()
	s := pgtest.Start(t, pgtest.Options{})
	owner := s.URL("postgres")
	const trace = "t,n\n2026-01-01T00:00:00Z,1\n2026-01-01T00:00:01Z,1\n2026-01-01T00:00:02Z,1\n"
	s.Exec(t, "CREATE ROLE app LOGIN PASSWORD 's3cret'", "CREATE ROLE nobody LOGIN PASSWORD 's3cret'")
	app := strings.Replace(owner, "postgres@", "app:s3cret@", 1)
	usage := app + "?usage=true"
	for _, c := range []storeCommand{
		{owner, "acquire --entity key-1 --resource gpt-4 --limit rpm=5/min", "", 1, `run "zael table create"`},
		{owner, "table create --json", "", 0, `"schema": "zael"`},
		{owner, "table create", "", 0, "the tables are in schema zael"},
		{owner, "table create --no-roles", "", 0, "the tables are in schema zael"},
		{app, "acquire --entity key-1 --resource gpt-4 --limit rpm=5/min", "", 1, "grant zael_acquire"},
		{app, "table create", "", 1, "permission denied"},
	} {
		c.check(t)
	}
	s.Exec(t, "GRANT zael_acquire, zael_admin TO app")
	for _, c := range []storeCommand{
		{usage, "ping", "", 0, "the store answers"},
		{usage, "limits set --resource gpt-4 --limit rpm=2/h --limit parallel=3", "", 2, "parallel"},
		{usage, "limits set --resource gpt-4 --limit rpm=2/h", "", 0, "rpm=2/h"},
		{usage, "acquire --entity key-1 --resource gpt-4 --stored", "", 0, "left rpm=1"},
		{usage, "acquire --entity key-1 --resource gpt-4 --stored", "", 0, "left rpm=0"},
		{usage, "acquire --entity key-1 --resource gpt-4 --stored", "", 3, "rate limit exceeded"},
		{usage, "available --entity key-1 --resource gpt-4 --stored", "", 0, "rpm            0"},
		{usage, "usage --entity key-1", "", 0, "total"},
		{app, "usage --entity key-1", "", 1, "usage=true"},
		{usage, "reset --entity key-1 --resource gpt-4", "", 0, "rpm: 2 available"},
		{usage, "disable --entity key-1", "", 0, "disabled"},
		{usage, "acquire --entity key-1 --resource gpt-4 --stored", "", 3, "disabled"},
		{usage, "entity create key-2 --parent key-1", "", 0, "created entity key-2"},
		{usage, "namespace register team-a", "", 0, "registered namespace team-a"},
		{usage, "namespace list", "", 0, "team-a"},
		{usage, "audit", "", 0, "namespace_registered"},
		{app, "replay - --limit rpm=2/h", trace, 0, "refused   1"},
		{app, "bench --duration 100ms --processes 1 --callers 2", "", 0, "app:***@"},
		{strings.Replace(owner, "postgres@", "nobody:s3cret@", 1), "ping", "", 1, "grant zael_acquire"},
		{strings.Replace(app, "s3cret", "wr0ng", 1), "ping", "", 1, "password authentication failed"},
		{app + "?nonsense=1", "ping", "", 2, `unknown setting, "nonsense"`},
	} {
		c.check(t)
	}
}

// A storeCommand is a command on a store, with its input, and what it is to answer.
type storeCommand struct {
	store, args, in string
	code            int
	want            string // in the output
}

// check runs the command. No output may show a password.
func (c storeCommand) check(t *testing.T) {
	t.Helper()
	r := zaelIn(c.in, append(strings.Fields(c.args), "--store", c.store)...)
	text := r.out + r.err
	if r.code != c.code || !strings.Contains(text, c.want) {
		t.Errorf("%s: got exit code %d and %q, want %d and %q", c.args, r.code, text, c.code, c.want)
	}
	for _, password := range []string{"s3cret", "wr0ng"} {
		if strings.Contains(text, password) {
			t.Errorf("%s shows the password: %q", c.args, text)
		}
	}
}
