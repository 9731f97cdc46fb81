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
		Short: "Delete the stack of a limiter, its table and all that is in it",
		Long: `Delete deletes the stack ZAEL-NAME with its table: buckets, limits, entities and
usage are gone. A stack that is missing is fine. A stack under deletion protection
stays: zael deploy with --deletion-protection=false lifts that. A stack
of such a name that another program made stays too.`,
		Example: `  zael delete --name demo
  zael delete --name demo --yes --no-wait`,
		Args: onlyFlags,
	}
	s := addStack(cmd, stackTimeout, "")
	yes := cmd.Flags().BoolP("yes", "y", false, "do not ask")
	wait := cmd.Flags().Bool("wait", true, "wait until CloudFormation is done")
	noWait := cmd.Flags().Bool("no-wait", false, "begin, and leave it to CloudFormation")
	cmd.MarkFlagsMutuallyExclusive("wait", "no-wait")
	asJSON := addJSON(cmd)
	cmd.RunE = a.run(func(cmd *cobra.Command, _ []string) error {
		return s.withStack(cmd.Context(), func(ctx context.Context, st *stack.Stack) error {
			now, err := st.Status(ctx, nil)
			if errors.Is(err, stack.ErrNoStack) {
				return a.printDeleted(s, deletedStack{st.Name(), "missing"}, *asJSON)
			}
			if !*yes && (now == nil || !now.Foreign) { // which Delete refuses
				if err := a.confirm(ctx, "Delete "+st.Name()+", its table and all that is in it?"); err != nil {
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
		done.Status += ". How it goes, until it is gone: " + s.command("status")
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
