package cli

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// An amountsValue is the flag --consume, which may be repeated.
type amountsValue zael.Amounts

// addAmounts gives cmd the flag --consume.
func addAmounts(cmd *cobra.Command, usage string) amountsValue {
	amounts := amountsValue{}
	cmd.Flags().VarP(amounts, "consume", "c", usage)
	_ = cmd.RegisterFlagCompletionFunc("consume", cobra.NoFileCompletions)
	return amounts
}

// Set implements pflag.Value. It adds an amount.
func (v amountsValue) Set(text string) error {
	name, n, err := parseAmount(text)
	if err != nil {
		return err
	}
	if _, repeated := v[name]; repeated {
		return fmt.Errorf("%s is given twice", name)
	}
	v[name] = n
	return nil
}

// String implements pflag.Value. The help shows it as the default.
func (v amountsValue) String() string { return zael.Amounts(v).String() }

// Type implements pflag.Value. The help shows it after the flag.
func (v amountsValue) Type() string { return "NAME=N" }

// parseAmount parses NAME=N.
func parseAmount(text string) (name string, n int64, err error) {
	name, number, ok := strings.Cut(text, "=")
	name, number = strings.TrimSpace(name), strings.TrimSpace(number)
	if !ok || name == "" {
		return "", 0, fmt.Errorf("%q is not NAME=N, such as rpm=1", text)
	}
	n, err = strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > bucket.MaxAmount {
		return "", 0, fmt.Errorf("%s: %q is not a whole number from 0 to %d", name, number, bucket.MaxAmount)
	}
	return name, n, nil
}

// amounts returns the amounts of --consume. A limit without one takes 1.
func (v amountsValue) amounts(limits, parentLimits limitsValue, stored bool) (zael.Amounts, error) {
	amounts := zael.Amounts{}
	for name, n := range v {
		if !stored && !limits.has(name) && !parentLimits.has(name) {
			return nil, usagef("--consume %s=%d: no limit %q; the limits are %s", name, n, name, limits.names())
		}
		amounts[name] = n
	}
	return amounts, nil
}

// A pairsValue is a flag with KEY=VALUE, which may be repeated.
type pairsValue map[string]string

// Set implements pflag.Value. It adds a pair.
func (v pairsValue) Set(text string) error {
	key, value, ok := strings.Cut(text, "=")
	if !ok || key == "" {
		return fmt.Errorf("%q is not KEY=VALUE", text)
	}
	if _, repeated := v[key]; repeated {
		return fmt.Errorf("%s is given twice", key)
	}
	v[key] = value
	return nil
}

// String implements pflag.Value. The help shows it as the default.
func (v pairsValue) String() string {
	var pairs []string
	for _, key := range slices.Sorted(maps.Keys(v)) {
		pairs = append(pairs, key+"="+v[key])
	}
	return strings.Join(pairs, ",")
}

// Type implements pflag.Value. The help shows it after the flag.
func (v pairsValue) Type() string { return "KEY=VALUE" }
