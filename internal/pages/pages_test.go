package pages_test

import (
	"errors"
	"strconv"
	"testing"

	"github.com/zeroae/zael/internal/pages"
)

// upTo returns pages of the numbers from 0 to n, and counts how many are read.
func upTo(n int, reads *int, err error) func(last *int) ([]int, error) {
	return func(last *int) (page []int, _ error) {
		*reads++
		from := 0
		if last != nil {
			from = *last + 1
		}
		for i := from; i < n && len(page) < pages.Size; i++ {
			page = append(page, i)
		}
		if len(page) < pages.Size && err != nil {
			return nil, err
		}
		return page, nil
	}
}

func TestOf(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]int{0: 1, 1: 1, pages.Size - 1: 1, pages.Size: 2, 3*pages.Size + 2: 4} {
		reads, next := 0, 0
		for i, err := range pages.Of(upTo(n, &reads, nil)) {
			if i != next || err != nil {
				t.Fatalf("of %d: got %d, %v; want %d", n, i, err, next)
			}
			next++
		}
		if next != n || reads != want {
			t.Errorf("of %d: got %d in %d pages, want %d pages", n, next, reads, want)
		}
	}
}

func TestOfStops(t *testing.T) {
	t.Parallel()
	reads := 0
	for i, err := range pages.Of(upTo(3*pages.Size, &reads, nil)) {
		if i == pages.Size || err != nil {
			break
		}
	}
	if reads != 2 {
		t.Errorf("got %d pages read, want 2: the caller has stopped in the second", reads)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	reads, n := 0, 0
	var failed error
	for text, err := range pages.Map(pages.Of(upTo(pages.Size+1, &reads, broken)), strconv.Itoa) {
		if err != nil {
			failed = err
			continue
		}
		if text != strconv.Itoa(n) {
			t.Fatalf("got %q, want %d", text, n)
		}
		n++
	}
	if n != pages.Size || !errors.Is(failed, broken) {
		t.Errorf("got %d and then %v, want %d and then %v", n, failed, pages.Size, broken)
	}
}
