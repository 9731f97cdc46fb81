package worker_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
	"github.com/zeroae/zael/internal/testrig/streamfake"
	"github.com/zeroae/zael/internal/usage"
	"github.com/zeroae/zael/internal/usage/deadletter"
	"github.com/zeroae/zael/internal/usage/stream"
	"github.com/zeroae/zael/internal/usage/worker"
)

// A worker that counts by other windows than a live one ends with an error. Of two that
// start together one ends. A dead one does not matter.
func TestOtherWindows(t *testing.T) {
	t.Parallel()
	monthly := []zael.Window{zael.Monthly}
	synctest.Test(t, func(t *testing.T) {
		s, table := streamfake.New("a", "b", "c"), dynamofake.New()
		s.Take("a", "e1", time.Now(), 5)
		first := start(t, s, table)
		wait(5 * time.Second)
		for _, once := range []bool{false, true} {
			other := &process{Table: table, windows: monthly}
			run(t, s, other, once)
			wait(2 * lease)
			select {
			case <-other.ended:
			default:
				other.kill()
				t.Fatalf("once %v: the other worker still runs, want an error", once)
			}
			if want := "counts by hourly,daily, this one by monthly"; other.err == nil || !strings.Contains(other.err.Error(), want) {
				t.Errorf("once %v: the other worker: got %v, want %s", once, other.err, want)
			}
		}
		same := start(t, s, table)
		wait(2 * lease)
		s.Take("b", "e2", time.Now(), 6)
		wait(5 * time.Second)
		same.stop()
		first.kill()
		other := &process{Table: table, windows: monthly}
		run(t, s, other, true)
		<-other.ended
		if other.err != nil {
			t.Errorf("after a worker that died: got %v, want nil", other.err)
		}
		wantUsed(t, s, table, "e1", "e2")
	})
	synctest.Test(t, func(t *testing.T) {
		s, table := streamfake.New("a", "b", "c", "d"), dynamofake.New()
		one, two := &process{Table: table}, &process{Table: table, windows: monthly}
		run(t, s, one, false)
		run(t, s, two, false)
		wait(5 * lease)
		ended := 0
		for _, p := range []*process{one, two} {
			select {
			case <-p.ended:
				ended++
			default:
				p.stop()
			}
		}
		if ended != 1 {
			t.Errorf("of two that start together: got %d that ended, want 1", ended)
		}
	})
}

// A redrive counts by the windows of the worker that gave the changes up. Asked for other
// windows it keeps the letters: the changes would be missing from some windows.
func TestRedriveOtherWindows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, table := streamfake.New("a"), dynamofake.New()
		bad := s.Take("a", "e1", time.Now(), 5)
		var good map[string]types.AttributeValue
		s.Change(bad, func(r *types.StreamRecord) {
			good, r.NewImage = r.NewImage, map[string]types.AttributeValue{"e": &types.AttributeValueMemberS{Value: "many"}}
		})
		once(t, s, &process{Table: table, windows: []zael.Window{zael.Monthly, zael.Hourly}})
		s.Change(bad, func(r *types.StreamRecord) { r.NewImage = good })
		letters := deadletter.NewTable(table, "fake")
		for _, c := range []struct {
			asked string
			want  error
		}{{"hourly,daily", deadletter.ErrWindows}, {"", nil}} {
			redrive := deadletter.Redrive{
				NewCounter: func(rules usage.CountingRules) (*usage.Counter, error) {
					config, err := rules.Config()
					if rules != (usage.CountingRules{Windows: "hourly,monthly", Days: 90}) || err != nil {
						t.Errorf("got a counter by %+v (%v), want the worker's rules", rules, err)
					}
					return usage.New(table, "fake", &config)
				},
				Asked: usage.CountingRules{Windows: c.asked},
				Table: "fake", Stream: func(arn string) *stream.Stream { return stream.Of(s, arn) },
			}
			var outcomes []deadletter.Outcome
			if err := redrive.Run(t.Context(), letters, 0, func(o deadletter.Outcome) { outcomes = append(outcomes, o) }); err != nil {
				t.Fatal(err)
			}
			if len(outcomes) != 1 || !errors.Is(outcomes[0].Err, c.want) {
				t.Errorf("asked by %q: got %+v, want one letter with the error %v", c.asked, outcomes, c.want)
			}
		}
		wantUsed(t, s, table, "e1")
	})
}

// Windows returns those of live workers, not of one that ended or died long ago.
func TestWindowsOfLiveWorkers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, table := streamfake.New("a", "b"), dynamofake.New()
		want := func(want string) {
			t.Helper()
			if got, err := worker.Windows(t.Context(), table, "fake", stream.Of(s, streamfake.ARN).Label, lease); got != want || err != nil {
				t.Errorf("got %q (%v), want %q", got, err, want)
			}
		}
		want("")
		p := &process{Table: table, windows: []zael.Window{zael.Monthly, zael.Daily}}
		run(t, s, p, false)
		wait(lease)
		want("daily,monthly")
		p.stop()
		want("")
		p = &process{Table: table, windows: []zael.Window{zael.Monthly}}
		run(t, s, p, false)
		wait(lease)
		p.kill()
		want("monthly")
		wait(2 * time.Minute)
		want("")
	})
}
