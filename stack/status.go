package stack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"

	"github.com/zeroae/zael/dynamostore"
)

// A Status is the state of a stack.
type Status struct {
	Stack     string            `json:"stack_name"`
	ID        string            `json:"stack_id"`
	Status    string            `json:"status"` // in CloudFormation's words
	Reason    string            `json:"reason,omitempty"`
	Created   time.Time         `json:"created"`
	Updated   time.Time         `json:"updated,omitzero"`
	Protected bool              `json:"deletion_protection"` // of the stack; Options have the table's
	Foreign   bool              `json:"foreign,omitempty"`   // another program made it: nothing more is read of it
	Options   Options           `json:"options"`             // that it was deployed with
	Template  int               `json:"template"`
	Drift     []Difference      `json:"drift"` // what an Apply of the wanted options would change
	Resources []Resource        `json:"resources"`
	Outputs   map[string]string `json:"outputs"`
	Versions  *Record           `json:"versions,omitempty"` // nil if there is no table, or no record in it

	// RecordDifferences are what Versions say otherwise than the stack; none while
	// CloudFormation is at work.
	RecordDifferences []RecordDifference `json:"record_differences,omitempty"`
}

// A Resource is one part of a stack.
type Resource struct {
	Name       string    `json:"name"` // in the template
	Type       string    `json:"type"`
	PhysicalID string    `json:"physical_id"`
	Status     string    `json:"status"`
	Reason     string    `json:"reason,omitempty"`
	Updated    time.Time `json:"updated"`
}

// Status reads the state of the stack. Drift compares it with want, or only its template
// if want is nil. The error matches ErrNoStack if there is no stack; with any other error,
// such as that of a table which was deleted by hand, Status returns what it had read.
func (s *Stack) Status(ctx context.Context, want *Options) (*Status, error) {
	st, err := s.status(ctx, want)
	if isGone(err) {
		return nil, fmt.Errorf("%w: %s", ErrNoStack, s.name)
	}
	return st, err
}

func (s *Stack) status(ctx context.Context, want *Options) (*Status, error) {
	if want != nil {
		if err := s.validate(want); err != nil {
			return nil, err
		}
	}
	d, err := s.describe(ctx, s.name)
	if err != nil {
		return nil, err
	}
	if d == nil {
		return nil, fmt.Errorf("%w: %s", ErrNoStack, s.name)
	}
	st := &Status{
		Stack: s.name, ID: d.id, Status: string(d.status), Reason: d.reason, Created: d.created, Updated: d.updated,
		Protected: d.protected, Outputs: d.outputs, Drift: []Difference{},
	}
	if st.Resources, err = s.resources(ctx, d.id); err != nil {
		return st, err
	}
	if d.status == types.StackStatusReviewInProgress {
		return st, nil // it has no template, options or table yet
	}
	template, err := s.templateOf(ctx, d.id)
	if err != nil {
		return st, err
	}
	if st.Foreign, err = isForeign(template); err != nil || st.Foreign {
		return st, err
	}
	if st.Options, err = optionsOf(s.name, d.params, d.tags); err != nil {
		return st, err
	}
	if err := s.drift(template, st, d, want); err != nil {
		return st, err
	}
	if slices.ContainsFunc(st.Resources, func(r Resource) bool {
		return r.Name == "Table" && strings.HasSuffix(r.Status, "_COMPLETE") && r.Status != "DELETE_COMPLETE"
	}) {
		st.Versions, err = s.readRecord(ctx)
		if err = s.explainNoTable(ctx, d, err); err != nil && !errors.Is(err, errStale) {
			return st, err
		}
		if st.Versions != nil && d.updatable() {
			st.RecordDifferences = st.Versions.differences(functionOf(d.params))
		}
	}
	return st, nil
}

// explainNoTable explains ErrNoTable for a stack that was there a moment ago.
func (s *Stack) explainNoTable(ctx context.Context, d *snapshot, err error) error {
	if errors.Is(err, dynamostore.ErrNoTable) {
		if d.busy() {
			return errStale // CloudFormation may be deleting it
		}
		if now, err := s.describe(ctx, d.id); err != nil || !d.sameAs(now) {
			return cmp.Or(err, errStale)
		}
		return fmt.Errorf("stack: %s has lost its table, which was deleted by hand: `zael delete` removes what is left, and `zael deploy` then creates it again: %w", s.name, dynamostore.ErrNoTable)
	}
	return err
}

// drift adds what differs from this program's template and from want.
func (s *Stack) drift(template string, st *Status, d *snapshot, want *Options) error {
	own, err := templateNumber(s.template)
	if err != nil {
		return err
	}
	if st.Template, err = templateNumber(template); err != nil {
		return err
	}
	if template != s.template {
		wanted := strconv.Itoa(own)
		if st.Template == own {
			wanted += ", with another text"
		}
		st.Drift = append(st.Drift, Difference{"Template", strconv.Itoa(st.Template), wanted})
	}
	if want == nil {
		return nil
	}
	o := want.WithDefaults()
	w := s.desiredBy(o, d)
	for _, name := range []string{paramCodeBucket, paramCodeKey, paramCodeVersion} {
		if v, ok := d.params[name]; ok { // which code runs is told by the versions
			w.params[name] = v
		}
	}
	st.Drift = append(st.Drift, w.differences(d)...)
	if d.protected != o.DeletionProtection {
		st.Drift = append(st.Drift, Difference{"TerminationProtection", strconv.FormatBool(d.protected), strconv.FormatBool(o.DeletionProtection)})
	}
	return nil
}

func (s *Stack) resources(ctx context.Context, id string) ([]Resource, error) {
	all := []Resource{}
	pages := cloudformation.NewListStackResourcesPaginator(s.cfn, &cloudformation.ListStackResourcesInput{StackName: &id})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("stack: reading the resources of %s: %w", s.name, err)
		}
		for i := range page.StackResourceSummaries {
			r := &page.StackResourceSummaries[i]
			all = append(all, Resource{
				Name: aws.ToString(r.LogicalResourceId), Type: aws.ToString(r.ResourceType), PhysicalID: aws.ToString(r.PhysicalResourceId),
				Status: string(r.ResourceStatus), Reason: aws.ToString(r.ResourceStatusReason), Updated: aws.ToTime(r.LastUpdatedTimestamp),
			})
		}
	}
	return all, nil
}

// A Summary is one stack of List.
type Summary struct {
	Stack   string    `json:"stack_name"`
	ID      string    `json:"stack_id"`
	Status  string    `json:"status"`
	Reason  string    `json:"reason,omitempty"`
	Created time.Time `json:"created"`
	Updated time.Time `json:"updated,omitzero"`
}

const prefix = "ZAEL-"

// List returns the stacks of an account and region whose names begin with ZAEL-, by name.
func List(ctx context.Context, c aws.Config) ([]Summary, error) {
	c, err := withTimeouts(c)
	if err != nil {
		return nil, err
	}
	return listStacks(ctx, cloudformation.NewFromConfig(c))
}

func listStacks(ctx context.Context, f cloudformation.ListStacksAPIClient) ([]Summary, error) {
	statuses := slices.DeleteFunc(types.StackStatus("").Values(), func(st types.StackStatus) bool { return st == types.StackStatusDeleteComplete })
	all := []Summary{}
	pages := cloudformation.NewListStacksPaginator(f, &cloudformation.ListStacksInput{StackStatusFilter: statuses})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("stack: listing stacks: %w", err)
		}
		for i := range page.StackSummaries {
			p := &page.StackSummaries[i]
			if !strings.HasPrefix(aws.ToString(p.StackName), prefix) {
				continue
			}
			all = append(all, Summary{
				Stack: aws.ToString(p.StackName), ID: aws.ToString(p.StackId), Status: string(p.StackStatus), Reason: aws.ToString(p.StackStatusReason),
				Created: aws.ToTime(p.CreationTime), Updated: aws.ToTime(p.LastUpdatedTime),
			})
		}
	}
	slices.SortFunc(all, func(a, b Summary) int { return strings.Compare(a.Stack, b.Stack) })
	return all, nil
}
