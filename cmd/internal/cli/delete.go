package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/zeroae/zael/stack"
)

// A deletedStack is what delete prints, as JSON.
type deletedStack struct {
	Stack  string `json:"stack_name"`
	Status string `json:"status"` // deleted, missing, or begun with --no-wait
}

func (a *app) delete() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete --name NAME",
		Short: "Delete a limiter's stack, with its table and everything in it",
		Long: `Delete deletes the stack ZAEL-NAME with its table: all buckets, limits, entities and
usage. A stack that does not exist is no error.

It deletes nothing if the stack is protected from deletion, which zael deploy with
--deletion-protection=false lifts; if one of its policies is attached to a role, user
or group; or if another program made the stack.`,
		Example: `  zael delete --name demo
  zael delete --name demo --yes --no-wait`,
		Args: onlyFlags,
	}
	s := addStack(cmd, stackTimeout, "")
	yes := cmd.Flags().BoolP("yes", "y", false, "do not ask for confirmation")
	wait := cmd.Flags().Bool("wait", true, "wait until CloudFormation has finished")
	noWait := cmd.Flags().Bool("no-wait", false, "return when CloudFormation has begun")
	cmd.MarkFlagsMutuallyExclusive("wait", "no-wait")
	asJSON := addJSON(cmd)
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
		return s.withStack(cmd.Context(), func(ctx context.Context, st *stack.Stack) error {
			now, err := st.Status(ctx, nil)
			if errors.Is(err, stack.ErrNoStack) {
				return a.printDeleted(s, deletedStack{st.Name(), "missing"}, *asJSON)
			}
			if !*yes && (now == nil || !now.Foreign) { // which Delete refuses
				if err := a.confirm(ctx, "Delete "+st.Name()+", its table and everything in it?"); err != nil {
					return err
				}
			}
			begin := *noWait || !*wait
			if err := st.Delete(ctx, &stack.Deletion{NoWait: begin, Progress: a.progressTo(*asJSON)}); err != nil {
				return err
			}
			done := deletedStack{st.Name(), "deleted"}
			if begin {
				done.Status = "begun"
			}
			return a.printDeleted(s, done, *asJSON)
		})
	})
	return cmd
}

func (a *app) printDeleted(s *stackFlags, done deletedStack, asJSON bool) error {
	if asJSON {
		return a.printJSON(done)
	}
	switch done.Status {
	case "missing":
		done.Status = fmt.Sprintf("there is none in %s; %s shows those there are", s.loaded.Region, s.listing())
	case "begun":
		done.Status += ". To follow it, until the stack is gone: " + s.command("status")
	}
	fmt.Fprintf(a.out, "%s: %s\n", done.Stack, done.Status)
	return nil
}

// confirm asks on a terminal, and takes no answer for no.
func (a *app) confirm(ctx context.Context, question string) error {
	in, ok := a.in.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return usagef("standard input is no terminal to ask on: say --yes if you mean it")
	}
	fmt.Fprintf(a.err, "%s [y/N] ", question)
	answer, err := bufio.NewReader(newInput(ctx, in)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		fmt.Fprintln(a.err)
		return err
	}
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return nil
	}
	return errors.New("not deleted")
}
