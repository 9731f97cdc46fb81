package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/zeroae/zael"
)

// A limitsValue is the flag --limit, which may be repeated.
type limitsValue []zael.Limit

const limitHelp = `a LIMIT such as rpm=100/min or "q=100 each day"; zael limits --help shows all forms; may be repeated`

// addLimits gives cmd the flag --limit.
func addLimits(cmd *cobra.Command) *limitsValue {
	limits := new(limitsValue)
	cmd.Flags().VarP(limits, "limit", "l", limitHelp)
	_ = cmd.RegisterFlagCompletionFunc("limit", cobra.NoFileCompletions)
	return limits
}

// Set implements pflag.Value. It adds a limit.
func (v *limitsValue) Set(text string) error {
	l, err := zael.ParseLimit(text)
	if err != nil {
		return reason(err)
	}
	if slices.ContainsFunc(*v, func(other zael.Limit) bool { return other.Name == l.Name }) {
		return fmt.Errorf("limit %s is given twice", l.Name)
	}
	*v = append(*v, l)
	return nil
}

// String implements pflag.Value. The help shows it as the default.
func (v *limitsValue) String() string {
	var texts []string
	for _, l := range *v {
		texts = append(texts, l.String())
	}
	return strings.Join(texts, ", ")
}

// Type implements pflag.Value. The help shows it after the flag.
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

// reason returns a validation error without the API's name of the field, as the flag is
// named already.
func reason(err error) error {
	var invalid *zael.ValidationError
	if !errors.As(err, &invalid) {
		return err
	}
	return errors.New(invalid.Reason)
}

// flagError returns an error of parsing flags that says what the value can be, instead of
// naming a function of the library.
func flagError(err error) error {
	bad, ok := errors.AsType[*pflag.InvalidValueError](err)
	if !ok {
		return err
	}
	is, ok := map[string]string{
		"bool": "it is true or false", "int": "it is a whole number", "int64": "it is a whole number",
		"duration": "it is a time such as 30s or 5m", "stringToString": "it is KEY=VALUE",
	}[bad.GetFlag().Value.Type()]
	if !ok {
		return err
	}
	return fmt.Errorf("invalid argument %q for \"--%s\" flag: %s", bad.GetValue(), bad.GetFlag().Name, is)
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
