package loadgen

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/zeroae/zael"
)

// What the processes say to each other: an order for a job and another to
// begin, then a word that the worker is ready, its progress, and its tally.
type order struct {
	Job   *Job `json:"job,omitempty"`
	Begin bool `json:"begin,omitempty"`
}

type report struct {
	Ready    bool    `json:"ready,omitempty"`
	Progress *Counts `json:"progress,omitempty"`
	Tally    *Tally  `json:"tally,omitempty"`
}

// Work is one process of a fleet: it takes its job from in, runs it when it is
// told to, and reports to out. It ends early, with what it has, when ctx is done
// or in ends. It may leave a goroutine that reads in.
func Work(ctx context.Context, store zael.Store, in io.Reader, out io.Writer) error {
	orders, reports := json.NewDecoder(in), json.NewEncoder(out)
	var o order
	switch err := orders.Decode(&o); { //nolint:musttag // both ends are this package
	case errors.Is(err, io.EOF):
		return reports.Encode(report{Tally: newTally()}) // it was over before it began
	case err != nil:
		return fmt.Errorf("reading the job: %w", err)
	}
	job := o.Job
	if job == nil {
		return errors.New("reading the job: there is none")
	}
	if err := warm(ctx, store, job); err != nil {
		return err
	}
	if err := reports.Encode(report{Ready: true}); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	begin := make(chan struct{})
	go func() {
		defer cancel()
		var o order
		if orders.Decode(&o) == nil && o.Begin { //nolint:musttag // likewise
			close(begin)
			_, _ = io.Copy(io.Discard, in) // until it ends
		}
	}()
	select {
	case <-begin:
	case <-ctx.Done():
	}
	var lost error
	tally, err := run(ctx, store, job, func(c Counts) {
		if err := reports.Encode(report{Progress: &c}); err != nil {
			lost = err
			cancel()
		}
	})
	if err := errors.Join(err, lost); err != nil {
		return err
	}
	return reports.Encode(report{Tally: tally})
}
