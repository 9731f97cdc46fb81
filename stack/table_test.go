package stack_test

import (
	"context"
	"errors"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/testrig/dynamofake"
	"github.com/zeroae/zael/stack"
)

// CloudFormation does not take a table over that no stack has made: it begins, fails at
// the table, and takes back the rest. The emulator does not fail.
func TestTableOfNoStackIsRefused(t *testing.T) {
	t.Parallel()
	inReview := describes(fakeName, &found{id: idOne, status: types.StackStatusReviewInProgress})
	for name, c := range map[string]struct {
		table  stack.Records
		script []step
	}{
		"a table":              {dynamofake.New(), []step{describes(fakeName, nil), describes(fakeName, nil)}},
		"one with other keys":  {otherKeys{}, []step{describes(fakeName, nil), describes(fakeName, nil)}},
		"before a change set":  {dynamofake.New(), []step{inReview, inReview}},
		"without its versions": {dynamofake.New(), []step{describes(fakeName, nil), describes(fakeName, nil)}},
	} {
		change := stack.Change{Options: bare()}
		if name == "without its versions" {
			change = stack.SkipVersions(change)
		}
		_, err := stack.NewFake(fakeName, scripted(t, c.script...), nil, nil, c.table).Apply(t.Context(), change)
		var e *stack.Error
		if !errors.As(err, &e) || e.Op != "create" {
			t.Fatalf("%s: got %v, want a *stack.Error of the creation", name, err)
		}
		contains(t, name, e.Reason, "a table ZAEL-demo exists that belongs to no stack", "zael table create", "use another name", "aws dynamodb delete-table --region eu-central-1 --table-name ZAEL-demo")
	}

	// Another program has made the stack meanwhile, with the table.
	is := complete(idTwo, types.StackStatusCreateComplete, bare())
	s := stack.NewFake(fakeName, scripted(t, describes(fakeName, nil), describes(fakeName, is), describes(fakeName, is), template(stack.Template())), nil, nil, dynamofake.New())
	apply(t, s, stack.Change{Options: bare()}, stack.Unchanged)

	// A caller that may not read tables finds out from CloudFormation.
	s = stack.NewFake(fakeName, scripted(t, steps(describes(fakeName, nil), creation(idOne))...), nil, nil, unreadableTable{})
	apply(t, s, stack.SkipVersions(stack.Change{Options: bare()}), stack.Created)
}

// An otherKeys is a table of another program.
type otherKeys struct{ stack.Records }

func (otherKeys) GetItem(context.Context, *dynamodb.GetItemInput, ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error) {
	return nil, answered("ValidationException", "The provided key element does not match the schema")
}

// An unreadableTable may not be read.
type unreadableTable struct{ stack.Records }

func (unreadableTable) GetItem(context.Context, *dynamodb.GetItemInput, ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error) {
	return nil, answered("AccessDeniedException", "not authorized to perform: dynamodb:GetItem")
}

// The same as a user leads it, on the emulator: a bare table, and then a stack.
func TestTableOfNoStackOnTheEmulator(t *testing.T) {
	t.Parallel()
	s := emulated(t, newName())
	client := dynamodb.NewFromConfig(configOf(t, emulator.Endpoint(t)), func(o *dynamodb.Options) { o.DisableValidateResponseChecksum = true })
	if err := dynamostore.CreateTable(t.Context(), client, s.Name()); err != nil {
		t.Fatal(err)
	}
	_, err := s.Apply(t.Context(), stack.Change{Options: bare()})
	if e := new(stack.Error); !errors.As(err, &e) || e.Op != "create" {
		t.Errorf("Apply: got %v, want a *stack.Error of the creation", err)
	}
	if _, err := s.Status(t.Context(), nil); !errors.Is(err, stack.ErrNoStack) {
		t.Errorf("Status: got %v, want ErrNoStack: nothing was begun", err)
	}
	if _, err := client.DeleteTable(t.Context(), &dynamodb.DeleteTableInput{TableName: aws.String(s.Name())}); err != nil {
		t.Fatal(err)
	}
	apply(t, s, stack.Change{Options: bare()}, stack.Created)
	remove(t, s)
}
