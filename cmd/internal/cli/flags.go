package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/stores"
)

// A limitsValue is the flag --limit, which may be repeated.
type limitsValue []zael.Limit

// addLimits gives cmd the flag --limit.
func addLimits(cmd *cobra.Command) *limitsValue {
	limits := new(limitsValue)
	cmd.Flags().VarP(limits, "limit", "l", `a limit, "NAME=AMOUNT/PERIOD [burst N]": PERIOD is s, min, h, d or a number of them; may be repeated`)
	_ = cmd.RegisterFlagCompletionFunc("limit", cobra.NoFileCompletions)
	return limits
}

// Set reads one more limit.
func (v *limitsValue) Set(text string) error {
	l, err := zael.ParseLimit(text)
	if err != nil {
		return reason(err)
	}
	if slices.ContainsFunc(*v, func(other zael.Limit) bool { return other.Name == l.Name }) {
		return fmt.Errorf("limit %s is there twice", l.Name)
	}
	*v = append(*v, l)
	return nil
}

// String is for pflag, which shows it as the default.
func (v *limitsValue) String() string {
	var texts []string
	for _, l := range *v {
		texts = append(texts, l.String())
	}
	return strings.Join(texts, ", ")
}

// Type is what stands after the flag in the help.
func (v *limitsValue) Type() string { return "LIMIT" }

func (v *limitsValue) has(name string) bool {
	return slices.ContainsFunc(*v, func(l zael.Limit) bool { return l.Name == name })
}

func (v *limitsValue) names() string {
	var names []string
	for _, l := range *v {
		names = append(names, l.Name)
	}
	return strings.Join(names, ", ")
}

// reason is a validation error without the name that the API has for the
// field; the flag says it better.
func reason(err error) error {
	var invalid *zael.ValidationError
	if !errors.As(err, &invalid) {
		return err
	}
	return errors.New(invalid.Reason)
}

// addStore gives cmd the flag --store.
func addStore(cmd *cobra.Command) *string {
	url := cmd.Flags().String("store", "memory:", "where the buckets are, as a `URL`")
	_ = cmd.RegisterFlagCompletionFunc("store", cobra.FixedCompletions([]string{"memory:"}, cobra.ShellCompDirectiveNoFileComp))
	return url
}

// openStore opens what --store says; the caller closes it.
func openStore(ctx context.Context, url string) (stores.Store, error) {
	s, err := stores.Open(ctx, url)
	var invalid *zael.ValidationError
	switch {
	case err == nil:
		return s, nil
	case errors.As(err, &invalid):
		return nil, usagef("--store %q %s", url, invalid.Reason)
	}
	return nil, err
}

// addJSON gives cmd the flag --json.
func addJSON(cmd *cobra.Command) *bool {
	return cmd.Flags().Bool("json", false, "print JSON")
}

// printJSON writes v, indented, to standard output.
func (a *app) printJSON(v any) error {
	encoder := json.NewEncoder(a.out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}
