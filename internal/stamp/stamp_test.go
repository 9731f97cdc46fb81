package stamp_test

import (
	"errors"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/stamp"
)

func TestTextsSortAsTimes(t *testing.T) {
	t.Parallel()
	first := time.Date(2025, 3, 9, 23, 59, 59, 999_999_999, time.FixedZone("", -3600))
	before := ""
	for _, after := range []time.Duration{0, 1, 2, time.Microsecond, time.Second, time.Hour, 24 * time.Hour, 400 * 24 * time.Hour} {
		at := first.Add(after)
		text, err := stamp.Checked("at", at)
		if err != nil {
			t.Fatal(err)
		}
		if text <= before {
			t.Errorf("%s is not after %s", text, before)
		}
		before = text
		if back, err := stamp.Parse(text); err != nil || !back.Equal(at) || back.Location() != time.UTC {
			t.Errorf("Parse(%q): got %v, %v; want %v in UTC", text, back, err, at)
		}
	}
}

func TestTimesThatDoNotFit(t *testing.T) {
	t.Parallel()
	for _, at := range []time.Time{time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)} {
		_, err := stamp.Checked("Once.Until", at)
		if invalid, ok := errors.AsType[*zael.ValidationError](err); !ok || invalid.Field != "Once.Until" {
			t.Errorf("%v: got %v, want an error about Once.Until", at, err)
		}
	}
	if _, err := stamp.Parse("yesterday"); err == nil {
		t.Error("Parse of what is no time: got no error")
	}
}
