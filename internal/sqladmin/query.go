package sqladmin

import (
	"context"
	"strings"
	"unicode/utf8"

	"github.com/zeroae/zael/internal/prefix"
)

// A Query is a text of SQL in which each ? stands for a value.
type Query struct {
	Args []any
	text strings.Builder
}

// Add appends to the text, and the values for which its question marks stand: int, int64, bool,
// string, *string and []byte.
func (q *Query) Add(text string, values ...any) *Query {
	q.text.WriteString(text)
	q.Args = append(q.Args, values...)
	return q
}

// String returns the text.
func (q *Query) String() string { return q.text.String() }

// Named selects the names in a column that begin with a text and come after another.
func (q *Query) Named(column, begin, after string) *Query {
	if begin != "" {
		q.Add(" AND "+column+" >= ? AND substr("+column+", 1, length(?)) = ?", begin, begin, begin)
	}
	if end := prefix.End(begin); end != "" && utf8.ValidString(end) { // for the index
		q.Add(" AND "+column+" < ?", end)
	}
	if after != "" {
		q.Add(" AND "+column+" > ?", after)
	}
	return q
}

// Rows are the rows that a query has found. *sql.Rows and pgx.Rows are such.
type Rows interface {
	Row
	Next() bool
	Err() error
}

// From begins a query of the rows of a table: conditions follow, each after AND.
func (t *Tables) From(columns, table string) *Query {
	return t.rows("SELECT "+columns+" FROM ", table)
}

// Delete begins the deletion of rows of a table.
func (t *Tables) Delete(table string) *Query { return t.rows("DELETE FROM ", table) }

func (t *Tables) rows(verb, table string) *Query {
	if t.Namespace == nil {
		return new(Query).Add(verb + t.Prefix + table + " WHERE true")
	}
	return new(Query).Add(verb+t.Prefix+table+" WHERE namespace = ?", *t.Namespace)
}

// insert adds a row to a table. columns are separated by commas.
func (t *Tables) insert(table, columns string, values ...any) *Query {
	if t.Namespace != nil {
		columns, values = "namespace, "+columns, append([]any{*t.Namespace}, values...)
	}
	marks := strings.Repeat(", ?", len(values))
	return new(Query).Add("INSERT INTO "+t.Prefix+table+" ("+columns+") VALUES ("+marks[2:]+")", values...)
}

// put sets the row of a scope in a table. columns are separated by commas.
func (t *Tables) put(table, columns string, values ...any) *Query {
	key, sets := "entity, resource", []string{}
	q := t.insert(table, key+", "+columns, values...)
	if t.Namespace != nil {
		key = "namespace, " + key
	}
	for column := range strings.SplitSeq(columns, ", ") {
		sets = append(sets, column+" = excluded."+column)
	}
	return q.Add(" ON CONFLICT (" + key + ") DO UPDATE SET " + strings.Join(sets, ", "))
}

// A Row is the present one of Rows.
type Row interface {
	// Scan reads the columns, into *int64, *bool, *string, **string or *[]byte.
	Scan(targets ...any) error
}

// Text reads a row of one text.
func Text(row Row) (s string, err error) {
	err = row.Scan(&s)
	return s, err
}

// ReadAll returns what scan reads of each row.
func ReadAll[T any](rows Rows, scan func(Row) (T, error)) ([]T, error) {
	found := []T{}
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, err
		}
		found = append(found, v)
	}
	return found, rows.Err()
}

// Collect returns what scan reads of each row of a query.
func Collect[T any](ctx context.Context, d Database, what string, q *Query, scan func(Row) (T, error)) (found []T, err error) {
	err = d.Query(ctx, what, q, func(rows Rows) (err error) {
		found, err = ReadAll(rows, scan)
		return err
	})
	return found, err
}

// One returns a reader of the columns of one row, and of whether there is one. Without targets the
// columns do not matter.
func One(found *bool, targets ...any) func(Rows) error {
	return func(rows Rows) error {
		*found = rows.Next()
		if !*found || len(targets) == 0 {
			return rows.Err()
		}
		return rows.Scan(targets...)
	}
}
