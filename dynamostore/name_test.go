package dynamostore_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore"
)

func TestTableName(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 33)
	for name, want := range map[string]string{
		"limiter": "ZAEL-limiter", "ZAEL-limiter": "ZAEL-limiter", "A-1": "ZAEL-A-1", long: "ZAEL-" + long,
		"ZAEL-ZAEL-x": "ZAEL-ZAEL-x", // one prefix is stripped, and no more
	} {
		if got, err := dynamostore.TableName(name); err != nil || got != want {
			t.Errorf("TableName(%q): got %q and %v, want %q", name, got, err, want)
		}
	}
	for name, reason := range map[string]string{
		"": "is empty", "ZAEL-": "is empty", "1a": "is not a letter", "-a": "is not a letter", "a_b": "is not a letter", "a.b": "is not a letter",
		"zürich": "is not a letter", "a\n": "is not a letter", long + "a": "longer than 33 characters",
	} {
		_, err := dynamostore.TableName(name)
		var v *zael.ValidationError
		if !errors.As(err, &v) || v.Field != "name" || !strings.Contains(v.Reason, reason) {
			t.Errorf("TableName(%q): got %v, want a *ValidationError of name that says %q", name, err, reason)
		}
	}
}
