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
)

func (a *app) table() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "table",
		Short: "Create the table of a store in DynamoDB",
	}
	cmd.AddCommand(a.tableCreate())
	return cmd
}

// A createdTable is what table create prints, as JSON.
type createdTable struct {
	Table string `json:"table"`
	Store string `json:"store"` // the URL
}

func (a *app) tableCreate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Create the table of a store in DynamoDB, without a stack",
		Long: `Create creates the table that --store names, billed per request, with its index,
stream and expiry, and returns when it is ready. A program needs no more to hold
limits. There is no aggregator, alarm or policy; zael deploy creates a table with
these, and does not take this one over.`,
		Example: `  zael local start
  zael table create --store 'dynamodb://demo?endpoint=http://127.0.0.1:8000'`,
		Args: cobra.NoArgs,
	}
	store := addStore(cmd, localTimeout)
	cmd.Flags().Lookup("store").Usage = "the table to create, as a `URL` (default: $ZAEL_STORE)"
	asJSON := addJSON(cmd)
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
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

// dynamoAddress is the store of the flags, which must be in DynamoDB.
func (a *app) dynamoAddress(s *storeFlags) (*awsconf.Address, error) {
	if s.timeout <= 0 {
		return nil, usagef("--timeout %v is not above 0", s.timeout)
	}
	url := s.url
	if url == "" {
		url = a.getenv("ZAEL_STORE")
	}
	if !strings.HasPrefix(url, awsconf.Scheme) {
		return nil, usagef(`--store %q is not in DynamoDB: give one like --store "dynamodb://my-app?region=eu-central-1"`, url)
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
