package sqlitestore_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zeroae/zael"
)

// On a full disk, operations that need room fail with zael.ErrUnavailable and change
// nothing. When there is room again, the store works.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	s := open(t, path, nil)
	mustTake(t, s, t0, ask(thousand, 1))
	if err := s.Script(t.Context(), "PRAGMA max_page_count = 60"); err != nil {
		t.Fatal(err)
	}
	admitted, failed := int64(1), 0
	for i := range 1000 {
		_, err := s.Take(t.Context(), t0, 0, []zael.Debit{
			ask(thousand, 1)[0],
			askOf(fmt.Sprint("entity-", i), thousand, 1)[0],
		})
		if err == nil {
			admitted++
			continue
		}
		if failed++; !errors.Is(err, zael.ErrUnavailable) || !strings.Contains(err.Error(), "the disk is full") {
			t.Fatalf("Take on a full disk: got %v, want zael.ErrUnavailable and that the disk is full", err)
		}
		if n := taken(t, s, fmt.Sprint("entity-", i), t0); n != 0 {
			t.Fatalf("a bucket whose take failed: got %d taken, want 0", n)
		}
		if failed == 20 {
			break
		}
	}
	if failed < 20 {
		t.Fatalf("takes on a full disk: got %d failed, want 20", failed)
	}
	if err := s.CreateEntity(t.Context(), zael.Entity{ID: strings.Repeat("x", 5000), CreatedAt: t0}, zael.AuditEvent{Time: t0}); !errors.Is(err, zael.ErrUnavailable) {
		t.Errorf("CreateEntity on a full disk: got %v, want zael.ErrUnavailable", err)
	}
	if n := taken(t, s, "alice", t0); n != admitted {
		t.Errorf("the bucket on a full disk: got %d taken, want the %d admitted", n, admitted)
	}
	if err := s.Script(t.Context(), "PRAGMA max_page_count = 100000"); err != nil {
		t.Fatal(err)
	}
	mustTake(t, s, t0, ask(thousand, 1))
	if tokens, _ := usage(t, s, zael.UsageQuery{Entity: "alice"}); tokens != admitted+1 {
		t.Errorf("usage afterwards: got %d, want %d", tokens, admitted+1)
	}
	if got := query(t, path, "PRAGMA integrity_check"); got != "ok" {
		t.Errorf("integrity check: got %q, want ok", got)
	}
}

// A damaged bucket does not affect other buckets.
func TestDamagedBucket(t *testing.T) {
	t.Parallel()
	for _, state := range []string{"x''", "x'00'", "x'ff'", "x'01'", "x'0100000501'", "x'01000001ffffffffffffffffff01'", "x'010000010372706d00000000'"} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			path := newPath(t)
			s := quick(t, path)
			mustTake(t, s, t0, ask(thousand, 1))
			mustTake(t, s, t0, askOf("bob", thousand, 1))
			run(t, path, "UPDATE buckets SET state = "+state+" WHERE entity = 'alice'")
			_, err := s.Take(t.Context(), t0, 0, ask(thousand, 1))
			if !errors.Is(err, zael.ErrUnavailable) || !strings.Contains(err.Error(), "damaged") {
				t.Errorf("Take: got %v, want zael.ErrUnavailable, and that it is damaged", err)
			}
			if _, _, err := s.Buckets(t.Context(), t0, []zael.Key{sharedKey}); !errors.Is(err, zael.ErrUnavailable) {
				t.Errorf("Buckets: got %v, want zael.ErrUnavailable", err)
			}
			// Together with others, and as they are swept.
			err = together(64, func(i int) error {
				for range 8 {
					if i == 0 {
						_, _ = s.Take(t.Context(), t0.Add(2*time.Hour), 0, ask(thousand, 1))
					} else if _, err := s.Take(t.Context(), t0.Add(2*time.Hour), 0, askOf("hot", plenty, 1)); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Errorf("takes from another bucket: %v", err)
			}
			got := query(t, path, "SELECT group_concat(entity) FROM buckets")
			if names := strings.Split(got, ","); len(names) != 2 || !slices.Contains(names, "hot") || !slices.Contains(names, "alice") {
				t.Errorf("buckets after a sweep: got %s, want hot and the damaged one", got)
			}
		})
	}
}
