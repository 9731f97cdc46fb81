package sqlitestore

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
)

const (
	// applicationID is "zael", in the header of the file.
	applicationID = 0x7a61656c

	// schemaVersion is the version of the tables below. A program opens files of its
	// own version, and brings those from oldestVersion on up to it.
	schemaVersion = 5
	oldestVersion = 2
)

// version3 is what version 3 adds.
//
//nolint:gochecknoglobals // a constant table
var version3 = []string{
	// The settings of a scope beside limits; for entity, resource and rev see the table
	// limits. switch is a zael.Switch, failure_mode a zael.FailureMode.
	`CREATE TABLE settings (
		entity       TEXT NOT NULL,
		resource     TEXT NOT NULL,
		rev          INTEGER NOT NULL,
		switch       INTEGER NOT NULL,
		failure_mode INTEGER NOT NULL,
		PRIMARY KEY (entity, resource)
	) STRICT, WITHOUT ROWID`,
	`CREATE INDEX settings_rev ON settings (rev)`,

	// Keys of changes that are made once; hash is of what was to be changed, result a
	// zael.EditResult as JSON.
	`CREATE TABLE once (
		key    TEXT PRIMARY KEY,
		hash   TEXT NOT NULL,
		until  TEXT NOT NULL,
		result TEXT NOT NULL
	) STRICT, WITHOUT ROWID`,
	`CREATE INDEX once_until ON once (until)`,
}

// upgrades has the statements that lead from a version of the tables to the next.
//
//nolint:gochecknoglobals // a constant table
var upgrades = map[int64][]string{
	2: version3,
	3: nil, // buckets and limits may be of other kinds than rates, which older programs cannot read
	4: version5,
}

// version5 is what version 5 adds; the states of buckets may say the same.
//
//nolint:gochecknoglobals // a constant table
var version5 = []string{
	// How many acquires left a limit overdrawn, by limit, as JSON; NULL if none did.
	`ALTER TABLE usage ADD COLUMN overdrawn TEXT`,
}

// schema is the statements that make a new file, before those of upgrades.
//
// Hours are counted from 1970 in UTC. Times are text, see package stamp. Limits, amounts,
// metadata and details are JSON.
//
//nolint:gochecknoglobals // a constant table
var schema = []string{
	// One row, or none, of instants in ns after 2025; 0 is none. latest is the
	// latest one of a call, or up to a second earlier. forgotten is the latest at
	// which a forgotten bucket or limit was full: by an older clock, a missing one
	// is as full as it was then.
	`CREATE TABLE instants (
		id        INTEGER PRIMARY KEY CHECK (id = 1),
		latest    INTEGER NOT NULL,
		forgotten INTEGER NOT NULL
	) STRICT`,

	// A bucket, and its usage in the hour of its last use, so that an acquire
	// changes one row. The usage moves to the table usage when the bucket is used
	// in another hour, or when that hour is over. hour is then NULL, and full_at
	// is the instant, in ns after 2025, at which the bucket will be full and can be
	// deleted. For state see row.go.
	`CREATE TABLE buckets (
		id       INTEGER PRIMARY KEY,
		entity   TEXT NOT NULL,
		resource TEXT NOT NULL,
		hour     INTEGER,
		full_at  INTEGER,
		state    BLOB NOT NULL,
		UNIQUE (entity, resource)
	) STRICT`,
	`CREATE INDEX buckets_resource ON buckets (resource)`,
	`CREATE INDEX buckets_hour ON buckets (hour, resource) WHERE hour IS NOT NULL`,
	`CREATE INDEX buckets_full ON buckets (full_at) WHERE full_at IS NOT NULL`,

	// events counts acquires; amounts is tokens by limit, net of those given back.
	`CREATE TABLE usage (
		id       INTEGER PRIMARY KEY,
		entity   TEXT NOT NULL,
		resource TEXT NOT NULL,
		hour     INTEGER NOT NULL,
		events   INTEGER NOT NULL,
		amounts  TEXT NOT NULL,
		UNIQUE (entity, hour, resource)
	) STRICT`,
	`CREATE INDEX usage_hour ON usage (hour, resource)`,

	`CREATE TABLE entities (
		id         TEXT PRIMARY KEY,
		name       TEXT NOT NULL,
		parent     TEXT NOT NULL,
		cascade    INTEGER NOT NULL,
		metadata   TEXT,
		created_at TEXT NOT NULL
	) STRICT, WITHOUT ROWID`,
	`CREATE INDEX entities_parent ON entities (parent) WHERE parent <> ''`,

	// The limits of a scope, in which "" stands for any entity or resource; [] if
	// they were deleted. rev is the revision, µs since 1970.
	`CREATE TABLE limits (
		entity   TEXT NOT NULL,
		resource TEXT NOT NULL,
		rev      INTEGER NOT NULL,
		limits   TEXT NOT NULL,
		PRIMARY KEY (entity, resource)
	) STRICT, WITHOUT ROWID`,

	`CREATE TABLE audit (
		id        INTEGER PRIMARY KEY,
		time      TEXT NOT NULL,
		action    TEXT NOT NULL,
		principal TEXT NOT NULL,
		entity    TEXT NOT NULL,
		resource  TEXT NOT NULL,
		details   TEXT
	) STRICT`,
	`CREATE INDEX audit_time ON audit (time)`,
	`CREATE INDEX audit_entity ON audit (entity, time)`,
}

// prepareFile opens the file for writing and makes the tables if it is new. It returns
// the instants in the file.
func prepareFile(ctx context.Context, path, name string, sync Synchronous) (*conn, instants, error) {
	c, err := openFile(ctx, path, name)
	if err != nil {
		return nil, instants{}, err
	}
	file, err := c.prepareFile(ctx, sync)
	if err != nil {
		_ = c.close()
		return nil, instants{}, err
	}
	return c, file, nil
}

func (c *conn) prepareFile(ctx context.Context, sync Synchronous) (file instants, err error) {
	if err := c.script("PRAGMA busy_timeout = 0"); err != nil {
		return file, err
	}
	version := int64(0)
	err = retry(ctx, func() (err error) {
		version, err = recognize(c) // before anything is written to a file of another program
		return err
	})
	if err != nil {
		return file, err
	}
	if err := configure(ctx, c, sync); err != nil {
		return file, err
	}
	if version != schemaVersion {
		if err := retry(ctx, func() error { return createTables(c) }); err != nil {
			return file, err
		}
	}
	err = retry(ctx, func() (err error) {
		file, err = readInstants(c)
		return err
	})
	return file, err
}

// recognized is one statement, so that it sees what another process makes as a whole or not at all.
const recognized = `SELECT (SELECT count(*) FROM sqlite_schema),
	(SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version)`

// recognize returns the version of the tables, 0 if the file is new. It returns an error
// for a file of another program, or of a version that this one does not know.
func recognize(c *conn) (version int64, err error) {
	var tables, id int64
	err = c.query(recognized, func(row []driver.Value) error {
		tables, _ = row[0].(int64)
		id, _ = row[1].(int64)
		version, _ = row[2].(int64)
		return nil
	})
	if err != nil {
		return 0, err
	}
	switch {
	case tables == 0 && id == 0 && version == 0:
		return 0, nil
	case id != applicationID:
		return 0, errors.New("it is a SQLite file of another program, not zael's: name another one")
	case version > schemaVersion:
		return 0, fmt.Errorf("it was made by a newer zael (version %d of the tables, this one knows %d): update this program, or name another file",
			version, schemaVersion)
	case version < oldestVersion:
		return 0, fmt.Errorf("it has version %d of the tables, which this zael does not know: name another file", version)
	}
	return version, nil
}

// pragmas are the settings of the connection that writes; the page size is of a new
// file. Acquires of different buckets change one page each, so small pages make short
// transactions. Eight MiB of log are copied back at a time.
//
//nolint:gochecknoglobals // a constant table
var pragmas = []string{
	"PRAGMA page_size = 1024",
	"PRAGMA wal_autocheckpoint = 8192",     // pages
	"PRAGMA journal_size_limit = 16777216", // bytes of the log that are kept after copying
	"PRAGMA cache_size = -16384",           // KiB
}

// configure sets pragmas, and write-ahead mode.
func configure(ctx context.Context, c *conn, sync Synchronous) error {
	for _, pragma := range append([]string{"PRAGMA synchronous = " + []string{"FULL", "NORMAL"}[sync]}, pragmas...) {
		if err := c.script(pragma); err != nil {
			return err
		}
	}
	return retry(ctx, func() error {
		mode := ""
		err := c.query("PRAGMA journal_mode = WAL", func(row []driver.Value) error {
			mode, _ = row[0].(string)
			return nil
		})
		if err == nil && mode != "wal" {
			err = fmt.Errorf("the write-ahead log does not work there (journal mode %q): use a disk of this machine", mode)
		}
		return err
	})
}

// createTables makes the tables, or brings them up to date, unless another process has
// done so meanwhile.
func createTables(c *conn) error {
	return transaction(c, func() error {
		version, err := recognize(c)
		if err != nil || version == schemaVersion {
			return err
		}
		var statements []string
		if version == 0 {
			statements, version = slices.Clone(schema), oldestVersion
		}
		for ; version < schemaVersion; version++ {
			statements = append(statements, upgrades[version]...)
		}
		for _, statement := range statements {
			if err := c.script(statement); err != nil {
				return err
			}
		}
		return c.script(fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d", applicationID, schemaVersion))
	})
}

// transaction runs f with the file locked for writing.
func transaction(c *conn, f func() error) error {
	_, err := c.exec(begin)
	if err != nil {
		return err
	}
	if err := f(); err != nil {
		_, _ = c.exec(rollback) // the engine may have done it already
		return err
	}
	if _, err := c.exec(commit); err != nil {
		_, _ = c.exec(rollback)
		return err
	}
	return nil
}

const (
	begin    = "BEGIN IMMEDIATE"
	commit   = "COMMIT"
	rollback = "ROLLBACK"
)
