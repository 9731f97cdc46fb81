//go:build linux

package postgresstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/child"
	"github.com/zeroae/zael/internal/testrig/pgtest"
)

// The disk has no room for the log: the server ends. Callers are told that it is unavailable. When
// there is room, what they had been told is there, and no more than was asked for.
func TestFullDiskOfLog(t *testing.T) {
	t.Parallel()
	child.SurviveFullDisk()
	server := pgtest.Start(t, pgtest.Options{Durable: true})
	url := server.URL("postgres")
	createTables(t, url)
	s := open(t, url, nil)
	l := startLoad(t, s, "a")
	l.await(t, 50)
	if err := server.LimitFiles(t.Context(), 8<<10); err != nil {
		t.Fatal(err)
	}
	select {
	case <-server.Process().Ended():
	case <-time.After(patience):
		t.Fatal("the server goes on")
	}
	if said := server.Process().Log(); !strings.Contains(said, "could not write to log file") {
		t.Errorf("the server ended for another reason: %s", said)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := s.State(ctx); !errors.Is(err, zael.ErrUnavailable) {
		t.Errorf("while there is no room: got %v, want ErrUnavailable", err)
	}
	if err := server.Restart(t.Context()); err != nil { // without the limit
		t.Fatal(err)
	}
	l.await(t, 50)
	l.stop()
	told := l.told.Load()
	if err := s.Close(t.Context()); err != nil { // what nobody holds is given back
		t.Fatal(err)
	}
	most := told + loadCallers + int64(s.Stats().Stranded)
	if kept := used(t, open(t, url, nil), "a"); kept < told || kept > most {
		t.Errorf("%d tokens are taken, want %d, which were told, to %d (%+v)", kept, told, most, s.Stats())
	}
}

// The disk has no room for more buckets, and some for the log: new buckets are unavailable until there
// is room, and nothing is charged that was not told.
func TestFullDiskOfData(t *testing.T) {
	t.Parallel()
	child.SurviveFullDisk()
	server := pgtest.Start(t, pgtest.Options{Durable: true, SmallLog: true})
	url := server.URL("postgres")
	createTables(t, url)
	s := open(t, url, nil)
	const size = 1 << 20 // a file of the log is as long
	if err := server.LimitFiles(t.Context(), size); err != nil {
		t.Fatal(err)
	}
	const callers, most = 32, 4000 // a caller; a bucket has more than 200 bytes
	told, errs := make([][]string, callers), make([]error, callers)
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := 0; errs[c] == nil && i < most; i++ {
				name := fmt.Sprint("caller ", c, " bucket ", i)
				if _, errs[c] = s.Take(t.Context(), t0, 0, askPlenty(name, 1, false)); errs[c] == nil {
					told[c] = append(told[c], name)
				}
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if !errors.Is(err, zael.ErrUnavailable) || !strings.Contains(err.Error(), "could not extend file") {
			t.Errorf("when there is no room: got %v, want ErrUnavailable, and why", err)
		}
	}
	if err := server.LimitFiles(t.Context(), child.Unlimited); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Take(t.Context(), t0, 0, askPlenty("after", 1, false)); err != nil {
		t.Errorf("when there is room: %v", err)
	}
	var want, got int64
	for c := range callers {
		want += int64(len(told[c])) + 1
		got += used(t, s, append(told[c], fmt.Sprint("caller ", c, " bucket ", len(told[c])))...)
	}
	if want -= callers; got != want { // the last one of each was refused
		t.Errorf("%d tokens are taken, want %d", got, want)
	}
	t.Logf("there was room for %d buckets", want)
}
