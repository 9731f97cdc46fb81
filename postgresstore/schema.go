package postgresstore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// schemaVersion is the version of the tables below. A program works with that version alone.
const schemaVersion = 1

// defaultSchema is the schema in the texts of this package, which inSchema replaces.
const defaultSchema = "zael"

// inSchema returns a text about another schema.
func inSchema(schema, text string) string {
	if schema == defaultSchema {
		return text
	}
	return strings.ReplaceAll(text, defaultSchema+".", pgx.Identifier{schema}.Sanitize()+".")
}

// tables are the statements that make the tables of version 1.
//
// Instants are nanoseconds after 2025, as in package bucket; hours are counted from 1970 in UTC.
// Times are text, see package stamp. Names are compared byte by byte.
//
//nolint:gochecknoglobals // a constant table
var tables = []string{
	`CREATE TABLE zael.version (
		one     integer PRIMARY KEY CHECK (one = 1),
		version integer NOT NULL
	)`,

	// A bucket, and its usage in the hour of its last use, so that an acquire changes one
	// row. What an index has does not change with an acquire, so that PostgreSQL writes the
	// new row beside the old one and touches no index (HOT), for which each page has room left.
	`CREATE %s TABLE zael.buckets (
		namespace text COLLATE "C" NOT NULL,
		entity    text COLLATE "C" NOT NULL,
		resource  text COLLATE "C" NOT NULL,
		ids       bigint[] NOT NULL, -- of the last four writes, the last one first
		settings  bigint NOT NULL,   -- the revision of the settings that hold for it
		latest    bigint NOT NULL,   -- the latest instant of a change
		expires   bigint NOT NULL,   -- the instant from which it may be deleted, in quarters of an hour
		birth     bigint NOT NULL,   -- the generation of limits that say none
		limits    text NOT NULL,     -- names and definitions as JSON, see row.go
		marks     bigint[] NOT NULL, -- of limits, in their order
		more      text,              -- what is used of quotas and windows, the holders of slots, and what was overdrawn in the hour, as JSON
		hour      bigint,            -- of the usage; null if there is none
		events    bigint NOT NULL,   -- acquires in that hour
		tokens    bigint[] NOT NULL, -- net tokens in that hour, of limits, in their order
		PRIMARY KEY (namespace, entity, resource)
	) WITH (fillfactor = 85)`,
	`CREATE INDEX buckets_resource ON zael.buckets (namespace, resource, entity)`,
	`CREATE INDEX buckets_expires ON zael.buckets (expires)`,
	`CREATE INDEX buckets_hour ON zael.buckets (namespace, hour) WHERE hour IS NOT NULL`,

	// Tokens of a limit in an hour, net of those given back; name is empty for acquires, and
	// begins with ! for those that left a limit overdrawn.
	`CREATE TABLE zael.usage (
		namespace text COLLATE "C" NOT NULL,
		entity    text COLLATE "C" NOT NULL,
		hour      bigint NOT NULL,
		resource  text COLLATE "C" NOT NULL,
		name      text COLLATE "C" NOT NULL,
		n         bigint NOT NULL,
		PRIMARY KEY (namespace, entity, hour, resource, name)
	)`,
	`CREATE INDEX usage_hour ON zael.usage (namespace, hour)`,

	`CREATE TABLE zael.entities (
		namespace  text COLLATE "C" NOT NULL,
		id         text COLLATE "C" NOT NULL,
		name       text NOT NULL,
		parent     text COLLATE "C" NOT NULL,
		cascades   boolean NOT NULL,
		metadata   text,
		created_at text NOT NULL,
		PRIMARY KEY (namespace, id)
	)`,
	`CREATE INDEX entities_parent ON zael.entities (namespace, parent, id) WHERE parent <> ''`,

	// The limits of a scope, in which '' stands for any entity or resource; [] if they were
	// deleted. rev is the revision, µs since 1970.
	`CREATE TABLE zael.limits (
		namespace text COLLATE "C" NOT NULL,
		entity    text COLLATE "C" NOT NULL,
		resource  text COLLATE "C" NOT NULL,
		rev       bigint NOT NULL,
		limits    text NOT NULL,
		PRIMARY KEY (namespace, entity, resource)
	)`,

	// The settings of a scope beside limits. switch is a zael.Switch, failure_mode a
	// zael.FailureMode.
	`CREATE TABLE zael.settings (
		namespace    text COLLATE "C" NOT NULL,
		entity       text COLLATE "C" NOT NULL,
		resource     text COLLATE "C" NOT NULL,
		rev          bigint NOT NULL,
		switch       integer NOT NULL,
		failure_mode integer NOT NULL,
		PRIMARY KEY (namespace, entity, resource)
	)`,
	`CREATE INDEX settings_rev ON zael.settings (namespace, rev)`,

	// Keys of what is made once: key begins with ! for changes of administration, and with /
	// for takes and adjusts. answer is what was answered.
	`CREATE TABLE zael.once (
		namespace text COLLATE "C" NOT NULL,
		key       text COLLATE "C" NOT NULL,
		hash      text NOT NULL,
		until     text COLLATE "C" NOT NULL,
		answer    bytea NOT NULL,
		PRIMARY KEY (namespace, key)
	)`,
	`CREATE INDEX once_until ON zael.once (until)`,

	`CREATE TABLE zael.audit (
		namespace text COLLATE "C" NOT NULL,
		id        bigint GENERATED ALWAYS AS IDENTITY,
		time      text COLLATE "C" NOT NULL,
		action    text NOT NULL,
		principal text NOT NULL,
		entity    text COLLATE "C" NOT NULL,
		resource  text COLLATE "C" NOT NULL,
		details   text,
		PRIMARY KEY (namespace, time, id)
	)`,
	`CREATE INDEX audit_entity ON zael.audit (namespace, entity, time, id)`,
	`CREATE INDEX audit_time ON zael.audit (time)`,

	`CREATE TABLE zael.namespaces (
		name          text COLLATE "C" PRIMARY KEY,
		state         text NOT NULL,
		registered_at text NOT NULL,
		changed_at    text NOT NULL
	)`,
}

// writeFunction writes buckets, each in the state for which the caller has computed the next
// one, and answers those that are in another as they are. Its rows are in the order of their
// keys, so that no two calls wait for each other. Of a bucket,
//
//	expected > 0  is the id of the write that the caller has seen last
//	expected = 0  says that it is not there
//	expected < 0  says that it is only to be read
//
// A bucket that has the id of this write among its last ones has been written by a call whose
// answer was lost.
const writeFunction = `CREATE OR REPLACE FUNCTION zael.write(
	p_namespace text, p_id bigint, p_lock_ms bigint, p_async boolean, p_must boolean,
	p_entities text[], p_resources text[], p_expected bigint[], p_settings bigint[], p_latest bigint[], p_expires bigint[], p_births bigint[],
	p_limits text[], p_marks text[], p_more text[], p_hours bigint[], p_events bigint[], p_tokens text[],
	p_drips text[], p_rooms text[], p_adds text[], p_counts text[], p_takes bigint[], p_lasts bigint[]
) RETURNS TABLE (
	ord integer, at timestamptz, ids bigint[], settings bigint, latest bigint, expires bigint, birth bigint,
	limits text, marks bigint[], more text, hour bigint, events bigint, tokens bigint[]
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	rev bigint;
BEGIN
	PERFORM set_config('lock_timeout', p_lock_ms::text, true);
	IF p_async THEN
		PERFORM set_config('synchronous_commit', 'off', true);
	END IF;
	ord := 0;
	at := clock_timestamp();
	ids := '{}'; settings := 0; latest := 0; expires := 0; birth := 0; limits := '[]'; marks := '{}'; events := 0; tokens := '{}';
	RETURN NEXT;
	FOR i IN 1 .. cardinality(p_entities) LOOP
		rev := 0;
		IF p_rooms[i] IS NOT NULL THEN
			UPDATE zael.buckets b SET ids = p_id || b.ids[1:3], latest = greatest(b.latest, p_latest[i]), expires = greatest(b.expires, p_lasts[i]),
				marks = ARRAY(SELECT CASE WHEN x.a IS NULL THEN x.m ELSE greatest(x.m, x.d) + x.a END
					FROM unnest(b.marks, p_drips[i]::bigint[], p_adds[i]::bigint[]) WITH ORDINALITY AS x (m, d, a, o) ORDER BY x.o),
				events = b.events + p_takes[i],
				tokens = CASE WHEN p_counts[i] IS NULL THEN b.tokens ELSE ARRAY(
					SELECT CASE WHEN x.n IS NULL THEN x.t ELSE least(coalesce(x.t, 0) + x.n::numeric, 9223372036854775807)::bigint END
					FROM unnest(b.tokens, p_counts[i]::bigint[]) WITH ORDINALITY AS x (t, n, o) ORDER BY x.o) END
			WHERE b.namespace = p_namespace AND b.entity = p_entities[i] AND b.resource = p_resources[i]
				AND b.limits = p_limits[i] AND b.more IS NULL AND b.settings <= p_settings[i] AND b.hour IS NOT DISTINCT FROM p_hours[i] AND p_id <> ALL (b.ids)
				AND NOT EXISTS (SELECT 1 FROM unnest(b.marks, p_drips[i]::bigint[], p_rooms[i]::bigint[]) AS x (m, d, r) WHERE greatest(x.m, x.d) > x.r)
			RETURNING b.ids, b.settings, b.latest, b.expires, b.birth, b.limits, b.marks, b.more, b.hour, b.events, b.tokens
			INTO ids, settings, latest, expires, birth, limits, marks, more, hour, events, tokens;
			IF FOUND THEN
				ord := -i;
				RETURN NEXT;
				CONTINUE;
			END IF;
		END IF;
		IF p_expected[i] > 0 THEN
			UPDATE zael.buckets b SET ids = p_id || b.ids[1:3], latest = p_latest[i], expires = p_expires[i],
				limits = p_limits[i], marks = p_marks[i]::bigint[], more = p_more[i],
				hour = p_hours[i], events = p_events[i], tokens = p_tokens[i]::bigint[]
			WHERE b.namespace = p_namespace AND b.entity = p_entities[i] AND b.resource = p_resources[i] AND b.ids[1] = p_expected[i];
			CONTINUE WHEN FOUND;
		ELSIF p_expected[i] = 0 THEN
			SELECT coalesce(max(s.rev), 0) INTO rev FROM zael.settings s
			WHERE s.namespace = p_namespace AND s.entity IN (p_entities[i], '') AND s.resource IN (p_resources[i], '');
			IF rev <= p_settings[i] THEN
				INSERT INTO zael.buckets AS b VALUES (p_namespace, p_entities[i], p_resources[i], ARRAY[p_id], rev, p_latest[i], p_expires[i], p_births[i],
					p_limits[i], p_marks[i]::bigint[], p_more[i], p_hours[i], p_events[i], p_tokens[i]::bigint[])
				ON CONFLICT DO NOTHING;
				CONTINUE WHEN FOUND;
			END IF;
		END IF;
		ord := i;
		SELECT b.ids, b.settings, b.latest, b.expires, b.birth, b.limits, b.marks, b.more, b.hour, b.events, b.tokens
		INTO ids, settings, latest, expires, birth, limits, marks, more, hour, events, tokens
		FROM zael.buckets b WHERE b.namespace = p_namespace AND b.entity = p_entities[i] AND b.resource = p_resources[i];
		IF NOT FOUND THEN
			SELECT coalesce(max(s.rev), 0) INTO settings FROM zael.settings s
			WHERE s.namespace = p_namespace AND s.entity IN (p_entities[i], '') AND s.resource IN (p_resources[i], '');
			ids := '{}'; latest := 0; expires := 0; birth := 0; limits := '[]'; marks := '{}'; events := 0; tokens := '{}';
		END IF;
		IF p_expected[i] >= 0 AND p_id = ANY (ids) THEN
			CONTINUE WHEN p_rooms[i] IS NULL;
			ord := -i;
			RETURN NEXT;
			CONTINUE;
		END IF;
		IF p_must THEN
			RAISE EXCEPTION 'a bucket has changed' USING ERRCODE = '40001';
		END IF;
		RETURN NEXT;
	END LOOP;
END
$$`

// writeOneFunction is writeFunction of one bucket that is there, in half of its time. It returns
// the server's time, or null if the bucket is not in the state that was expected.
const writeOneFunction = `CREATE OR REPLACE FUNCTION zael.write_one(
	p_namespace text, p_id bigint, p_lock_ms bigint, p_async boolean, p_entity text, p_resource text, p_expected bigint, p_latest bigint, p_expires bigint,
	p_limits text, p_marks bigint[], p_more text, p_hour bigint, p_events bigint, p_tokens bigint[]
) RETURNS timestamptz LANGUAGE plpgsql AS $$
BEGIN
	PERFORM set_config('lock_timeout', p_lock_ms::text, true);
	IF p_async THEN
		PERFORM set_config('synchronous_commit', 'off', true);
	END IF;
	UPDATE zael.buckets b SET ids = p_id || b.ids[1:3], latest = p_latest, expires = p_expires,
		limits = p_limits, marks = p_marks, more = p_more, hour = p_hour, events = p_events, tokens = p_tokens
	WHERE b.namespace = p_namespace AND b.entity = p_entity AND b.resource = p_resource AND b.ids[1] = p_expected;
	RETURN CASE WHEN FOUND THEN clock_timestamp() END;
END
$$`

// Roles that CreateTables makes: each has the rights of what its name says, and nobody logs in
// as one. Grant them to the roles of programs.
const (
	RoleAcquire = "zael_acquire" // what programs need that acquire
	RoleRead    = "zael_read"    // reads everything
	RoleAdmin   = "zael_admin"   // and changes entities, limits and settings
)

// grants are the statements that give the roles their rights.
//
//nolint:gochecknoglobals // a constant table
var grants = []string{
	`GRANT USAGE ON SCHEMA zael. TO zael_acquire, zael_read, zael_admin`,
	`GRANT SELECT ON ALL TABLES IN SCHEMA zael. TO zael_acquire, zael_read, zael_admin`,
	`GRANT INSERT, UPDATE, DELETE ON zael.buckets, zael.usage, zael.once TO zael_acquire, zael_admin`,
	`GRANT DELETE ON zael.audit TO zael_acquire`,
	`GRANT INSERT, UPDATE, DELETE ON zael.entities, zael.limits, zael.settings, zael.audit, zael.namespaces TO zael_admin`,
	`GRANT EXECUTE ON FUNCTION zael.write, zael.write_one TO zael_acquire, zael_admin`,
}

// CreateOptions are those of CreateTables.
type CreateOptions struct {
	// Unlogged has PostgreSQL keep no log of the buckets: faster, and a crash of the server
	// empties them, so that all are full again.
	Unlogged bool
	// NoRoles makes no roles: whoever owns the tables may use them.
	NoRoles bool
}

// migrationLock is the advisory lock of programs that make or change the tables.
const migrationLock = 0x7a61656c

// CreateTables makes the schema, its tables and functions, and the roles; what is there stays.
// Any number of programs may do so at once. It needs the right to create a schema in the
// database, and with roles that to create roles.
func (s *Store) CreateTables(ctx context.Context, o CreateOptions) error {
	return s.transact(ctx, "making the tables", func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(migrationLock)); err != nil {
			return err
		}
		if err := checkEncoding(ctx, tx); err != nil {
			return err
		}
		version, err := readVersion(ctx, tx, s.config.Schema)
		switch {
		case err != nil:
			return err
		case version > schemaVersion:
			return s.newerSchema(version)
		case version < schemaVersion:
			if err := s.makeTables(ctx, tx, o); err != nil {
				return err
			}
		}
		if o.NoRoles {
			return nil
		}
		return s.makeRoles(ctx, tx)
	})
}

func (s *Store) makeTables(ctx context.Context, tx pgx.Tx, o CreateOptions) error {
	unlogged := ""
	if o.Unlogged {
		unlogged = "UNLOGGED"
	}
	var statements []string
	var exists bool
	if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)", s.config.Schema).Scan(&exists); err != nil {
		return err
	}
	if !exists { // somebody may have made it for a user who may not
		statements = append(statements, "CREATE SCHEMA "+pgx.Identifier{s.config.Schema}.Sanitize())
	}
	for _, t := range tables {
		statements = append(statements, s.sql(strings.Replace(t, "CREATE %s TABLE", "CREATE "+unlogged+" TABLE", 1)))
	}
	statements = append(statements, s.sql(writeFunction), s.sql(writeOneFunction), s.sql(`REVOKE ALL ON FUNCTION zael.write, zael.write_one FROM PUBLIC`),
		s.sql(fmt.Sprintf(`INSERT INTO zael.version VALUES (1, %d)`, schemaVersion)))
	return execAll(ctx, tx, statements)
}

func (s *Store) makeRoles(ctx context.Context, tx pgx.Tx) error {
	var statements []string
	for _, role := range []string{RoleAcquire, RoleRead, RoleAdmin} {
		var exists bool
		if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = $1)", role).Scan(&exists); err != nil {
			return err
		}
		if !exists { // roles are those of all databases, of which another one may be making them
			statements = append(statements, "DO $$ BEGIN CREATE ROLE "+role+" NOLOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$")
		}
	}
	schema := pgx.Identifier{s.config.Schema}.Sanitize()
	for _, g := range grants {
		g = strings.Replace(g, "SCHEMA zael. ", "SCHEMA "+schema+" ", 1)
		statements = append(statements, s.sql(g))
	}
	return execAll(ctx, tx, statements)
}

func execAll(ctx context.Context, tx pgx.Tx, statements []string) error {
	for _, statement := range statements {
		if _, err := tx.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// ErrNoTables matches the error of calls where the store's tables are missing or older than
// this program; the error names the command that makes them.
var ErrNoTables = errors.New("the tables are not there")

func (s *Store) newerSchema(version int) error {
	return fmt.Errorf("the tables in schema %s have version %d, this program knows %d: update the program", s.config.Schema, version, schemaVersion)
}

// errEncoding says that not all names fit into the database.
var errEncoding = errors.New("is not UTF8: create a database with ENCODING 'UTF8'")

// checkEncoding returns an error if the database does not have all characters: a name that it has
// not would fail the calls of others that go with it.
func checkEncoding(ctx context.Context, tx pgx.Tx) error {
	var encoding string
	if err := tx.QueryRow(ctx, "SELECT current_setting('server_encoding')").Scan(&encoding); err != nil {
		return err
	}
	if encoding != "UTF8" {
		return fmt.Errorf("the database's encoding, %s, %w", encoding, errEncoding)
	}
	return nil
}

// readVersion returns the version of the tables; 0 if there are none.
func readVersion(ctx context.Context, tx pgx.Tx, schema string) (version int, err error) {
	var there bool
	// Not to_regclass: it does not see what was made while the lock of migrations was waited for.
	const find = "SELECT EXISTS (SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = 'version')"
	if err := tx.QueryRow(ctx, find, schema).Scan(&there); err != nil || !there {
		return 0, err
	}
	err = tx.QueryRow(ctx, "SELECT version FROM "+pgx.Identifier{schema, "version"}.Sanitize()).Scan(&version)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	return version, err
}
