package stack

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/internal/pause"
)

// An Event is what CloudFormation says of one resource.
type Event struct {
	Time       time.Time `json:"time"`
	Resource   string    `json:"resource"` // its name in the template; the stack's own name for the stack
	Type       string    `json:"type"`     // such as AWS::DynamoDB::Table
	PhysicalID string    `json:"physical_id,omitempty"`
	Status     string    `json:"status"`
	Reason     string    `json:"reason,omitempty"`
}

// Failed reports whether the resource failed.
func (e *Event) Failed() bool { return strings.HasSuffix(e.Status, "_FAILED") }

// cancelled reports whether the resource failed only because another one did.
func (e *Event) cancelled() bool { return strings.HasSuffix(e.Reason, "cancelled") }

const stackType = "AWS::CloudFormation::Stack"

// A watch follows what CloudFormation does to a stack.
type watch struct {
	s        *Stack
	id       string
	last     string // id of the newest event that was seen
	events   []Event
	progress func(Event)
}

// watch returns a watch of what happens to a stack from now on.
func (s *Stack) watch(ctx context.Context, id string, progress func(Event)) (*watch, error) {
	out, err := s.cfn.DescribeStackEvents(ctx, &cloudformation.DescribeStackEventsInput{StackName: &id})
	if err != nil {
		return nil, fmt.Errorf("stack: reading the events of %s: %w", s.name, err)
	}
	w := &watch{s: s, id: id, progress: progress}
	if len(out.StackEvents) > 0 {
		w.last = aws.ToString(out.StackEvents[0].EventId)
	}
	return w, nil
}

// poll reads the new events.
func (w *watch) poll(ctx context.Context) error {
	var fresh []types.StackEvent // newest first
	in := &cloudformation.DescribeStackEventsInput{StackName: &w.id}
pages:
	for {
		out, err := w.s.cfn.DescribeStackEvents(ctx, in)
		if err != nil {
			return fmt.Errorf("stack: reading the events of %s: %w", w.s.name, err)
		}
		for i := range out.StackEvents {
			if w.last != "" && aws.ToString(out.StackEvents[i].EventId) == w.last {
				break pages
			}
			fresh = append(fresh, out.StackEvents[i])
		}
		if out.NextToken == nil {
			break
		}
		in.NextToken = out.NextToken
	}
	if len(fresh) == 0 {
		return nil
	}
	w.last = aws.ToString(fresh[0].EventId)
	slices.Reverse(fresh)
	for i := range fresh {
		f := &fresh[i]
		e := Event{
			Time: aws.ToTime(f.Timestamp), Resource: aws.ToString(f.LogicalResourceId), Type: aws.ToString(f.ResourceType),
			PhysicalID: aws.ToString(f.PhysicalResourceId), Status: string(f.ResourceStatus), Reason: aws.ToString(f.ResourceStatusReason),
		}
		w.events = append(w.events, e)
		if w.progress != nil {
			w.progress(e)
		}
	}
	return nil
}

// ended reports whether an event says that the stack has come to the status.
func (w *watch) ended(status types.StackStatus) bool {
	return slices.ContainsFunc(w.events, func(e Event) bool {
		return e.Type == stackType && e.PhysicalID == w.id && e.Status == string(status)
	})
}

// wait returns when CloudFormation has finished what it was asked for since the watch
// began. It returns nil for a deleted stack of which CloudFormation knows nothing more.
func (w *watch) wait(ctx context.Context) (*snapshot, error) {
	return w.until(ctx, func(d *snapshot) bool {
		return w.ended(d.status) // just after the call the old status may still stand
	})
}

// maxMissed is how many times in a row AWS may be unavailable.
const maxMissed = 4

// until returns when CloudFormation is not at work and done returns true; nil if the
// stack is gone.
func (w *watch) until(ctx context.Context, done func(*snapshot) bool) (*snapshot, error) {
	status, missed := "", 0
	for n := 0; ; n++ {
		d, err := w.s.describe(ctx, w.id)
		if err == nil && d != nil {
			status = string(d.status)
			err = w.poll(ctx)
		}
		switch {
		case isGone(err):
			return nil, nil
		case errors.Is(err, zael.ErrUnavailable) && ctx.Err() == nil && missed < maxMissed:
			missed++ // as where many programs look at once
		case err != nil:
			return nil, w.s.waitError(ctx, status, err)
		case d == nil || !d.busy() && done(d):
			return d, nil
		default:
			missed = 0
		}
		if err := w.s.pause(ctx, n); err != nil {
			return nil, w.s.waitError(ctx, status, err)
		}
	}
}

// waitError turns an error into a *WaitError where CloudFormation may still be at work.
func (s *Stack) waitError(ctx context.Context, status string, err error) error {
	switch {
	case ctx.Err() != nil:
		return &WaitError{s.name, status, ctx.Err()}
	case errors.Is(err, zael.ErrUnavailable):
		return &WaitError{s.name, status, err}
	}
	return err
}

// waitForOther returns when CloudFormation has finished what somebody else asked it for.
func (s *Stack) waitForOther(ctx context.Context, id string, progress func(Event)) error {
	w, err := s.watch(ctx, id, progress)
	switch {
	case isGone(err):
		return nil
	case err != nil:
		return s.waitError(ctx, "", err)
	}
	_, err = w.until(ctx, func(*snapshot) bool { return true })
	return err
}

// pause waits before call n of a series that waits for CloudFormation: at first for a
// short time, as emulators are quick.
func (s *Stack) pause(ctx context.Context, n int) error {
	d := s.minPause
	for ; n > 0 && d < s.maxPause; n-- {
		d += d / 2
	}
	return pause.For(ctx, min(d, s.maxPause))
}

// failure returns the error of an operation that failed; d is nil if the stack is gone.
func (w *watch) failure(op string, d *snapshot, advice string) *Error {
	rank := func(e Event) int {
		switch {
		case !e.Failed():
			return 2
		case e.cancelled() || e.Type == stackType:
			return 1
		}
		return 0
	}
	events := slices.Clone(w.events)
	slices.SortStableFunc(events, func(a, b Event) int { return rank(a) - rank(b) })
	reason := "it was deleted meanwhile, by another program or by hand"
	if d != nil && d.status != types.StackStatusDeleteComplete {
		reason = fmt.Sprintf("it is %s", d.status)
	}
	if len(events) > 0 && rank(events[0]) == 0 {
		reason = fmt.Sprintf("%s (%s): %s", events[0].Resource, events[0].Type, events[0].Reason)
	} else if d != nil && d.reason != "" {
		reason += ": " + d.reason
	}
	if advice != "" {
		reason += "; " + advice
	}
	return &Error{Op: op, Stack: w.s.name, Reason: reason, Events: events}
}
