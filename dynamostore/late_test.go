package dynamostore_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
	"github.com/zeroae/zael/internal/trial"
)

// A lagging table loses the first write of the parent, has it come late, when
// the repetition has been answered and others have written, and only then lets
// the child answer.
type lagging struct {
	*dynamofake.Table
	between func() // what others write

	mu       sync.Mutex
	writes   map[string]int // of the child and the parent since it was armed; nil before
	late     *dynamodb.UpdateItemInput
	repeated chan struct{}
}

// arm makes the next writes those that lag.
func (l *lagging) arm() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writes = map[string]int{}
}

// count returns which write of its item since arm this one is, from 1, or 0 before arm.
func (l *lagging) count(key string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.writes == nil {
		return 0
	}
	l.writes[key]++
	return l.writes[key]
}

func (l *lagging) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, o ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	key := in.Key["PK"].(*types.AttributeValueMemberS).Value //nolint:forcetypeassert // keys are texts
	switch n := l.count(key); {
	case key == "E#parent" && n == 1:
		l.late = in
		return nil, errReset
	case key == "E#parent" && n == 2:
		defer close(l.repeated)
	case key == "E#child" && n == 1:
		<-l.repeated
		l.between()
		if _, err := l.Table.UpdateItem(ctx, l.late); err != nil {
			return nil, err
		}
	}
	return l.Table.UpdateItem(ctx, in, o...)
}

// A copy that comes late makes a write the last one again, and hides what others
// wrote since. What is given back then is what was taken, and not all of that.
func TestUndoBesideALateCopy(t *testing.T) {
	t.Parallel()
	d := define(10, 10, time.Hour)
	renamed := d
	renamed.Capacity = 5
	for name, now := range map[string]zael.Charge{"by a clock that is behind": ask("rpm", d, 2), "under changed limits": ask("rpm", renamed, 2)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			table := &lagging{Table: dynamofake.New(), repeated: make(chan struct{})}
			other, err := dynamostore.NewTrial(table.Table, "fake", patient(), trial.Options{VirtualTime: true})
			opened(t, other, err)
			s, err := dynamostore.NewTrial(table, "fake", patient(), trial.Options{VirtualTime: true})
			opened(t, s, err)
			take(t, s, 0, nil, debit("child", ask("rpm", d, 1)), debit("parent", ask("rpm", d, 1)))
			if now.Definition == d {
				take(t, s, time.Minute, nil, debit("parent", ask("rpm", d, 0)))
			}
			take(t, other, 0, nil, debit("child", ask("rpm", d, 9)))
			table.between = func() { take(t, other, 0, nil, debit("parent", ask("rpm", d, 3))) }
			table.arm()
			take(t, s, 0, zael.ErrExceeded, debit("child", ask("rpm", d, 2)), debit("parent", now))
			// 1, 2 by the repetition, 3 by the other and 2 by the late copy, less 2.
			left(t, other, 0, "parent", "rpm", 4)
		})
	}
}
