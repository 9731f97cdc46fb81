package dynamostore

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/zeroae/zael/internal/storearg"
)

// Of the names of tables: what they begin with, and how long they are with it,
// so that there is room for what a stack adds to it.
const (
	tablePrefix  = "ZAEL-"
	longestTable = 38
)

// TableName returns the table of the limiter with a name, ZAEL-name: a letter and
// then letters, digits and -, up to 33 characters. The prefix may be given. The
// error is a *zael.ValidationError.
func TableName(name string) (string, error) {
	rest := strings.TrimPrefix(name, tablePrefix)
	switch table := tablePrefix + rest; {
	case rest == "":
		return "", storearg.Invalid("name", name, `is empty: choose one like "my-app"`)
	case !regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]*$`).MatchString(rest):
		return "", storearg.Invalid("name", name, `is not a letter and then letters, digits and "-"`)
	case len(table) > longestTable:
		return "", storearg.Invalid("name", name, fmt.Sprintf("is longer than %d characters", longestTable-len(tablePrefix)))
	default:
		return table, nil
	}
}
