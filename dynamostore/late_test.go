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
	armed    bool
	late     *dynamodb.UpdateItemInput
	repeated chan struct{}
}

func (l *lagging) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, o ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	l.mu.Lock()
	armed, first := l.armed, l.late == nil
	parent := in.Key["PK"].(*types.AttributeValueMemberS).Value == "E#parent" //nolint:forcetypeassert // keys are texts
	if armed && parent {
		l.late, l.armed = in, first
	}
	l.mu.Unlock()
	switch {
	case armed && parent && first:
		return nil, errReset
	case armed && parent:
		defer close(l.repeated)
	case armed:
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
			other, err := dynamostore.NewTrial(table.Table, "fake", nil, trial.Options{VirtualTime: true})
			opened(t, other, err)
			s, err := dynamostore.NewTrial(table, "fake", nil, trial.Options{VirtualTime: true})
			opened(t, s, err)
			take(t, s, 0, nil, debit("child", ask("rpm", d, 1)), debit("parent", ask("rpm", d, 1)))
			if now.Definition == d {
				take(t, s, time.Minute, nil, debit("parent", ask("rpm", d, 0)))
			}
			take(t, other, 0, nil, debit("child", ask("rpm", d, 9)))
			table.between = func() { take(t, other, 0, nil, debit("parent", ask("rpm", d, 3))) }
			table.armed = true
			take(t, s, 0, zael.ErrExceeded, debit("child", ask("rpm", d, 2)), debit("parent", now))
			// 1, 2 by the repetition, 3 by the other and 2 by the late copy, less 2.
			left(t, other, 0, "parent", "rpm", 4)
		})
	}
}
