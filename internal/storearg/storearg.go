// Package storearg has the checks of arguments that stores have in common. All its errors are
// *zael.ValidationErrors.
package storearg

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/bucket"
)

// Invalid returns a *zael.ValidationError about a value, which it shortens if it is long.
func Invalid(field string, value any, reason string) error {
	if s, ok := value.(string); ok && len(s) > 80 {
		value = strings.ToValidUTF8(s[:64], "?") + "…"
	}
	return &zael.ValidationError{Field: field, Value: value, Reason: reason}
}

// Instant returns the instant of now.
func Instant(now time.Time) (bucket.Instant, error) {
	at, err := bucket.At(now)
	if err != nil {
		return 0, Invalid("now", nil, err.Error())
	}
	return at, nil
}

// Names says which texts a store can keep. None can keep what is not UTF-8.
type Names struct {
	Longest int  // bytes of a text that is a part of keys; 0: any number
	NoZero  bool // zero bytes cannot be kept
}

// Text checks a text that is not a part of keys.
func (n Names) Text(field, s string) error {
	switch {
	case n.NoZero && strings.IndexByte(s, 0) >= 0:
		return Invalid(field, s, "has a zero byte in it")
	case !utf8.ValidString(s):
		return Invalid(field, s, "is not UTF-8")
	}
	return nil
}

// Name checks a text that is a part of keys.
func (n Names) Name(field, s string) error {
	if n.Longest > 0 && len(s) > n.Longest {
		return Invalid(field, s, fmt.Sprintf("has %d bytes: use %d at most", len(s), n.Longest))
	}
	return n.Text(field, s)
}

// Key checks the names of a bucket or a scope.
func (n Names) Key(k zael.Key) error {
	if err := n.Name("entity", k.Entity); err != nil {
		return err
	}
	return n.Name("resource", k.Resource)
}

// List checks what a list is asked for.
func (n Names) List(q zael.ListQuery) error {
	if err := n.Text("prefix", q.Prefix); err != nil {
		return err
	}
	return n.Text("after", q.After)
}

// Debits checks the debits of a take, or of what is none. engine is what the store's processes
// share, such as "file".
func (n Names) Debits(debits []zael.Debit, take bool, engine string) error {
	for i := range debits {
		d := &debits[i]
		if err := n.Key(d.Key); err != nil {
			return err
		}
		if err := n.Text("holder", d.Holder); err != nil {
			return err
		}
		for j := range d.Charges {
			c := &d.Charges[j]
			if err := n.Name("limit", c.Name); err != nil {
				return err
			}
			if err := Definition(c); err != nil {
				return err
			}
			if c.Definition.Kind == bucket.Slots && c.Amount != 0 && d.Holder == "" {
				return Invalid("Debit.Holder", "", "is empty, but slots of "+c.Name+" need a holder that this "+engine+"'s other programs can tell from theirs: name one")
			}
			if take && (c.Amount < 0 || c.Amount > bucket.MaxAmount) {
				return Invalid("amount of "+c.Name, c.Amount, fmt.Sprintf("is not in 0 to %d", bucket.MaxAmount))
			}
		}
	}
	return nil
}

// Definition checks the definition of a limit: nobody could use a bucket that has one which is not
// valid.
func Definition(c *zael.Charge) error {
	if err := c.Definition.Validate(); err != nil {
		return Invalid("limit "+c.Name, c.Definition.Kind.String(), "is not valid: "+err.Error())
	}
	return nil
}

// DefaultRetention is how long stores keep usage and audit events.
const DefaultRetention = 90 * 24 * time.Hour

// A Config is what the Configs of networked stores have in common.
type Config struct {
	Namespace          string
	CachedBuckets      int // 0: DefaultBuckets
	Retention          time.Duration
	CallTimeout        time.Duration
	DefaultCallTimeout time.Duration
}

// DefaultBuckets is how many buckets networked stores remember as they were last seen.
const DefaultBuckets = 50_000

// Validate checks the fields of a Config.
func (c *Config) Validate() error {
	if c.Namespace != "" && zael.CheckNamespace(c.Namespace) != nil {
		return Invalid("Config.Namespace", c.Namespace, "is not up to 64 characters of A-Z a-z 0-9 _ . -")
	}
	switch {
	case c.CallTimeout < 0:
		return Invalid("Config.CallTimeout", c.CallTimeout, fmt.Sprintf("is negative: use 0 for the default of %v", c.DefaultCallTimeout))
	case c.CachedBuckets < 0:
		return Invalid("Config.CachedBuckets", c.CachedBuckets, fmt.Sprintf("is negative: use 0 for the default of %d", DefaultBuckets))
	case c.Retention < 0:
		return Invalid("Config.Retention", c.Retention, "is negative: use 0 for the default of 90 days")
	}
	return nil
}
