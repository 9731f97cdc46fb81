package loadgen

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/zeroae/zael"
)

// An order is what a worker reads: first its job, then that it should begin.
type order struct {
	Job   *Job `json:"job,omitempty"`
	Begin bool `json:"begin,omitempty"`
}

// A report is what a worker writes: that it is ready, then its progress, and at the end
// its tally.
type report struct {
	Ready    bool    `json:"ready,omitempty"`
	Progress *Counts `json:"progress,omitempty"`
	Tally    *Tally  `json:"tally,omitempty"`
}

// Work is the main function of a process that RunProcesses starts: it reads its job
// from in, runs it when told to, and reports to out. When ctx is done or in ends, it
// stops early and reports what it has. It may leave a goroutine that reads in.
func Work(ctx context.Context, store zael.Store, in io.Reader, out io.Writer) error {
	orders, reports := json.NewDecoder(in), json.NewEncoder(out)
	var o order
	switch err := orders.Decode(&o); { //nolint:musttag // both ends are this package
	case errors.Is(err, io.EOF):
		return reports.Encode(report{Tally: newTally()}) // stopped before it began
	case err != nil:
		return fmt.Errorf("reading the job: %w", err)
	}
	job := o.Job
	if job == nil {
		return errors.New("reading the job: it is missing")
	}
	if err := warmUp(ctx, store, job); err != nil {
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
		if orders.Decode(&o) == nil && o.Begin { //nolint:musttag // as above
			close(begin)
			_, _ = io.Copy(io.Discard, in) // wait for its end
		}
	}()
	select {
	case <-begin:
	case <-ctx.Done():
	}
	var unsent error
	tally, err := run(ctx, store, job, func(c Counts) {
		if err := reports.Encode(report{Progress: &c}); err != nil {
			unsent = err
			cancel()
		}
	})
	if err := errors.Join(err, unsent); err != nil {
		return err
	}
	return reports.Encode(report{Tally: tally})
}
