// Package stamp writes times as stores keep them: as text, which sorts as the times do.
package stamp

import (
	"time"

	"github.com/zeroae/zael/internal/storearg"
)

// Layout is the form: UTC with nine decimals.
const Layout = "2006-01-02T15:04:05.000000000Z"

// Text returns a time as text.
func Text(t time.Time) string { return t.UTC().Format(Layout) }

// Checked returns Text of a time. The error is a *zael.ValidationError of a field, if the time does
// not fit Layout.
func Checked(field string, t time.Time) (string, error) {
	if y := t.UTC().Year(); y < 0 || y > 9999 {
		return "", storearg.Invalid(field, t, "is not in the years 0 to 9999")
	}
	return Text(t), nil
}

// Parse reads what Text has written.
func Parse(s string) (time.Time, error) {
	t, err := time.Parse(Layout, s)
	return t.UTC(), err
}
