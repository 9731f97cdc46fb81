package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/awsconf"
	"github.com/zeroae/zael/postgresstore"
	"github.com/zeroae/zael/stores"
)

func (a *app) table() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "table",
		Short: "Create the tables of a store in DynamoDB or PostgreSQL",
	}
	cmd.AddCommand(a.tableCreate())
	return cmd
}

// A createdTable is what table create prints, as JSON.
type createdTable struct {
	Table  string `json:"table,omitempty"`  // in DynamoDB
	Schema string `json:"schema,omitempty"` // in PostgreSQL
	Store  string `json:"store"`            // the URL
}

func (a *app) tableCreate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Create the tables of a store in DynamoDB or PostgreSQL",
		Long: `Create creates what a store needs in its database, and returns when it is ready.

In DynamoDB that is the table that --store names, billed per request, with its
index, stream and expiry. A program needs no more to hold limits. There is no
aggregator, alarm or policy; zael deploy creates a table with these, and does not
take this one over.

In PostgreSQL it is a schema, zael unless the URL says schema=NAME, with tables and
functions, which are brought up to date if they are there. With durability=unlogged
in the URL the buckets are not logged: faster, and full again after a crash of the
server. Rights are given to the roles zael_acquire, zael_read and zael_admin, which
are created where they are missing; grant them to the users of programs. The user
of --store must be allowed to create schemas in the database, and roles unless
--no-roles is given.`,
		Example: `  zael local start
  zael table create --store 'dynamodb://demo?endpoint=http://127.0.0.1:8000'
  zael table create --store 'postgres://owner@localhost/app'`,
		Args: cobra.NoArgs,
	}
	store := addStore(cmd, localTimeout)
	cmd.Flags().Lookup("store").Usage = "the store whose tables are created, as a `URL` (default: $ZAEL_STORE)"
	noRoles := cmd.Flags().Bool("no-roles", false, "in PostgreSQL: create no roles and give no rights; the tables are the user's of --store")
	asJSON := addJSON(cmd)
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
		if url, scheme := a.givenURL(store); postgresstore.IsScheme(scheme) {
			return a.createPostgres(cmd, store, url, *noRoles, *asJSON)
		}
		if *noRoles {
			return usagef("--no-roles is for PostgreSQL")
		}
		address, err := a.dynamoAddress(store)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), store.timeout)
		defer cancel()
		client, err := address.Client(ctx)
		if err != nil {
			return ofURL(err)
		}
		if err := dynamostore.CreateTable(ctx, client, address.Table); err != nil {
			return late(cmd.Context(), store, err)
		}
		if *asJSON {
			return a.printJSON(createdTable{Table: address.Table, Store: address.URL})
		}
		fmt.Fprintf(a.out, "created the table %s\n", address.Table)
		return nil
	})
	return cmd
}

// givenURL is the URL of the flags or the environment, and its scheme.
func (a *app) givenURL(s *storeFlags) (url, scheme string) {
	if url = s.url; url == "" {
		url = a.getenv("ZAEL_STORE")
	}
	scheme, _, _ = strings.Cut(url, ":")
	return url, scheme
}

// createPostgres creates the tables of a store in PostgreSQL.
func (a *app) createPostgres(cmd *cobra.Command, store *storeFlags, url string, noRoles, asJSON bool) error {
	if store.timeout <= 0 {
		return usagef("--timeout %v is not above 0", store.timeout)
	}
	address, err := postgresstore.Parse(url)
	if err != nil {
		return ofURL(err)
	}
	s, err := address.Open()
	if err != nil {
		return ofURL(err)
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), store.timeout)
	defer cancel()
	err = s.CreateTables(ctx, postgresstore.CreateOptions{Unlogged: address.Unlogged(), NoRoles: noRoles})
	if err = errors.Join(err, s.Close(ctx)); err != nil {
		return late(cmd.Context(), store, err)
	}
	if asJSON {
		return a.printJSON(createdTable{Schema: address.Schema(), Store: stores.Redact(url)})
	}
	fmt.Fprintf(a.out, "the tables are in schema %s\n", address.Schema())
	return nil
}

// dynamoAddress is the store of the flags, which must be in DynamoDB.
func (a *app) dynamoAddress(s *storeFlags) (*awsconf.Address, error) {
	if s.timeout <= 0 {
		return nil, usagef("--timeout %v is not above 0", s.timeout)
	}
	url, _ := a.givenURL(s)
	if !strings.HasPrefix(url, awsconf.Scheme) {
		return nil, usagef(`--store %q is not in DynamoDB: give one like --store "dynamodb://my-app?region=eu-central-1"`, stores.Redact(url))
	}
	address, err := awsconf.Parse(url)
	return address, ofURL(err)
}

// ofURL is an error about a store's URL in the words of the command line.
func ofURL(err error) error {
	if v, ok := errors.AsType[*zael.ValidationError](err); ok {
		return usagef("--store %q %s", v.Value, v.Reason)
	}
	return err
}
