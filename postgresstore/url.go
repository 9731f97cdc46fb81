package postgresstore

import (
	"cmp"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/zeroae/zael/internal/redact"
	"github.com/zeroae/zael/internal/storearg"
	"github.com/zeroae/zael/internal/trial"
)

// An Address is what a URL of a store says.
type Address struct {
	pool     *pgxpool.Config
	config   Config
	trial    trial.Options
	unlogged bool
}

// Open opens the store that a URL names. It connects to nothing: the first call does, and finds
// out whether the tables are there, so that a program can start before its database.
//
//	postgres://[user[:password]@]host[:5432][,host[:5432]...]/database
//
// postgresql:// is the same. Of several hosts, a primary and its standbys, the first that takes
// writes is used. What the URL does not say is taken from the environment as libpq
// does: PGUSER, PGPASSWORD, PGPASSFILE, PGSSLMODE and so on; a password is better there or in a
// passfile than in the URL. Settings follow a question mark:
//
//	schema=zael           see Config
//	namespace=team-a      see Config
//	usage=true            see Config
//	durability=on         see Config; off, or unlogged for tables that were created so
//	pool=8                see Config
//	migrate=true          see Config
//	sslmode=verify-full   as libpq has it; anything less must be written, but for this machine: disable
//	sslrootcert=FILE      certificates (PEM) of the authorities to trust, instead of the system's
//	sslcert=FILE&sslkey=FILE  the client's certificate and key (PEM)
//	passfile=FILE         where passwords are, instead of ~/.pgpass
//	target_session_attrs=read-write  as libpq has it: which of several hosts; that is the default for these
//	virtual_time=true     for replays: instants are the caller's, and not corrected by the server's clock
//
// Errors are *zael.ValidationErrors, which show no password. The caller must call Close.
func Open(address string) (*Store, error) {
	a, err := Parse(address)
	if err != nil {
		return nil, err
	}
	return a.Open()
}

// Open opens the store of an address.
func (a *Address) Open() (*Store, error) { return NewTrial(a.pool, &a.config, a.trial) }

// Schema returns that of the tables.
func (a *Address) Schema() string { return cmp.Or(a.config.Schema, defaultSchema) }

// Unlogged reports whether the address says durability=unlogged.
func (a *Address) Unlogged() bool { return a.unlogged }

// IsScheme reports whether a URL with a scheme is one of PostgreSQL.
func IsScheme(scheme string) bool { return scheme == "postgres" || scheme == "postgresql" }

// passedOn are the settings that are the driver's.
func passedOn(name string) bool {
	switch name {
	case "sslmode", "sslrootcert", "sslcert", "sslkey", "passfile", "target_session_attrs":
		return true
	}
	return false
}

// Parse reads a URL: see Open.
func Parse(address string) (*Address, error) {
	bad := func(format string, args ...any) error {
		return storearg.Invalid("store", redact.URL(address), fmt.Sprintf(format, args...))
	}
	scheme, _, _ := strings.Cut(address, ":")
	u, err := url.Parse(address)
	switch {
	case !IsScheme(scheme) || err == nil && u.Opaque != "":
		return nil, bad(`is no URL of PostgreSQL: write it like "postgres://user@host:5432/database"`)
	case err != nil:
		return nil, bad("cannot be read: in user and password write special characters as %%XX")
	case u.Fragment != "":
		return nil, bad("has a #, which has no meaning: in a password write %%23")
	case slices.Contains(hostsOf(u), ""):
		return nil, bad(`names no host: write it like "postgres://localhost:5432/database"`)
	case strings.Trim(u.Path, "/") == "":
		return nil, bad(`names no database: write it like "postgres://%s/database"`, u.Host)
	}
	settings, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, bad("has settings that cannot be read: separate them by &, and write special characters as %%XX")
	}
	a := new(Address)
	driver := url.Values{}
	for name, values := range settings {
		value := values[len(values)-1]
		if passedOn(name) {
			driver.Set(name, value)
			continue
		}
		if err := a.set(name, value); err != nil {
			return nil, bad("%s", err.Error())
		}
	}
	if !driver.Has("sslmode") && os.Getenv("PGSSLMODE") == "" {
		driver.Set("sslmode", "verify-full")
		if !slices.ContainsFunc(hostsOf(u), isRemote) {
			driver.Set("sslmode", "disable")
		}
	}
	if len(hostsOf(u)) > 1 && !driver.Has("target_session_attrs") {
		driver.Set("target_session_attrs", "read-write")
	}
	if err := a.config.Validate(); err != nil {
		return nil, bad("has a wrong setting: %s", reasonOf(err))
	}
	u.RawQuery = driver.Encode()
	if a.pool, err = pgxpool.ParseConfig(u.String()); err != nil {
		return nil, bad("cannot be used: %s", parseReason(err))
	}
	return a, nil
}

// set reads a setting that is the store's.
func (a *Address) set(name, value string) (err error) {
	switch name {
	case "schema":
		a.config.Schema = value
	case "namespace":
		a.config.Namespace = value
	case "usage":
		a.config.Usage, err = strconv.ParseBool(value)
	case "migrate":
		a.config.Migrate, err = strconv.ParseBool(value)
	case "virtual_time":
		a.trial.VirtualTime, err = strconv.ParseBool(value)
	case "durability":
		switch value {
		case "on":
		case "off":
			a.config.Durability = DurabilityOff
		case "unlogged":
			a.config.Durability, a.unlogged = DurabilityOff, true
		default:
			return fmt.Errorf("has durability=%q, which is not on, off or unlogged", value)
		}
	case "pool":
		if a.config.Pool, err = strconv.Atoi(value); err != nil || a.config.Pool < 2 || a.config.Pool > mostPool {
			return fmt.Errorf("has pool=%q, which is not in 2 to %d", value, mostPool)
		}
	default:
		return fmt.Errorf("has an unknown setting, %q: there are schema, namespace, usage, durability, pool, migrate, sslmode, sslrootcert, sslcert, sslkey, passfile, target_session_attrs and virtual_time", name)
	}
	if err != nil {
		return fmt.Errorf("has %s=%q, which is not true or false", name, value)
	}
	return nil
}

// hostsOf returns the hosts of a URL, without their ports.
func hostsOf(u *url.URL) (hosts []string) {
	for host := range strings.SplitSeq(u.Host, ",") {
		hosts = append(hosts, (&url.URL{Host: host}).Hostname())
	}
	return hosts
}

// isRemote reports whether a host is not this machine.
func isRemote(host string) bool {
	if host == "localhost" || strings.HasPrefix(host, "/") {
		return false
	}
	a, err := netip.ParseAddr(host)
	return err != nil || !a.IsLoopback()
}
