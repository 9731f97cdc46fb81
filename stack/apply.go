package stack

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore"
)

// A Change says what Apply should bring about.
type Change struct {
	// Options describe the stack. If they are nil a stack keeps its own, and none
	// is created.
	Options *Options

	// Code is the function's code. Without it a function keeps the code that it
	// has, and none is created.
	Code Code

	// CodeBucket is the bucket, in the stack's region, that the code is uploaded
	// to. Empty is the account's own, zael-artifacts-<account>-<region>, which is
	// created if it is missing.
	CodeBucket string

	// OnlyUpgrade is for programs that start, as older ones may run beside them:
	// it keeps code that is not known to be older, and a newer template with all
	// its options. Result.Kept says what stays.
	OnlyUpgrade bool

	// KeepCode keeps a function's code, even if it is older.
	KeepCode bool

	// KeepTemplate keeps the template that a stack was deployed with.
	KeepTemplate bool

	// NoWait makes Apply return when CloudFormation has begun. The next program
	// that connects notes the versions.
	NoWait bool

	// By names the author of the change in the version record; empty is "zael"
	// with its version.
	By string

	// Progress, if not nil, is called with each event of the stack, in order, by
	// the goroutine that called Apply.
	Progress func(Event)

	skipVersions bool // neither check nor write the version record
}

// An Outcome is what Apply did.
type Outcome string

// The outcomes.
const (
	Created   Outcome = "created"
	Updated   Outcome = "updated"
	Unchanged Outcome = "unchanged"  // nothing, as the stack was up to date
	KeptNewer Outcome = "kept newer" // nothing, as a newer program deployed it: see Change.OnlyUpgrade
	Begun     Outcome = "begun"      // CloudFormation is at work: see Change.NoWait
)

// A Result is a stack after Apply.
type Result struct {
	Outcome  Outcome           `json:"outcome"`
	Stack    string            `json:"stack_name"`
	ID       string            `json:"stack_id"`
	Status   string            `json:"status"`
	Changes  []ResourceChange  `json:"changes,omitempty"` // of an update
	Outputs  map[string]string `json:"outputs"`
	Versions *Record           `json:"versions"`
	Kept     []Kept            `json:"kept,omitempty"` // what stays although the program has another one: see Change.OnlyUpgrade
}

// maxRounds is how many times Apply starts over because others changed the stack.
const maxRounds = 30

// Apply creates the stack, or updates it by a change set to match c, or finds that there
// is nothing to do. It returns when CloudFormation has finished, or ctx is done; what
// CloudFormation has begun goes on then.
//
// The error is a *WaitError if ctx ends, or AWS does not answer, while CloudFormation is at
// work; an *Error if CloudFormation refuses or fails, or the stack or table is another
// program's; a *zael.ValidationError for a wrong option; and matches ErrIncompatibleSchema
// or is a *VersionError if the table is for programs of other versions.
//
// Any number of programs may apply at once: the others wait for one, and compare again. A
// stack whose creation failed is deleted and created again.
func (s *Stack) Apply(ctx context.Context, c Change) (*Result, error) {
	if c.Options != nil {
		if err := s.validate(c.Options); err != nil {
			return nil, err
		}
	}
	if c.CodeBucket != "" && !regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`).MatchString(c.CodeBucket) {
		return nil, invalid("CodeBucket", c.CodeBucket, "is not the name of a bucket of S3: 3 to 63 lower-case letters, digits, dots and -")
	}
	c.By = cmp.Or(c.By, "zael "+s.version)
	c.Code.Version = cmp.Or(c.Code.Version, s.version)
	for n := range maxRounds {
		if n > 0 { // what others did is not seen everywhere at once
			if err := s.pause(ctx, n-1); err != nil {
				return nil, s.waitError(ctx, "", err)
			}
		}
		result, err := s.applyOnce(ctx, &c)
		if !errors.Is(err, errStale) && !isGone(err) {
			return result, err
		}
	}
	return nil, &Error{Op: "update", Stack: s.name, Reason: "others keep changing it: try again later"}
}

// applyOnce does the one step that the stack's status calls for. It returns errStale if
// another step may be needed.
func (s *Stack) applyOnce(ctx context.Context, c *Change) (*Result, error) {
	d, err := s.describe(ctx, s.name)
	switch {
	case err != nil:
		return nil, err
	case d == nil && c.Options == nil:
		return nil, fmt.Errorf("%w: %s", ErrNoStack, s.name)
	case d == nil:
		return s.create(ctx, c)
	case d.busy():
		return nil, cmp.Or(s.waitForOther(ctx, d.id, c.Progress), errStale)
	case d.updatable():
		return s.update(ctx, c, d)
	}
	stuck := func(advice string) error {
		reason := fmt.Sprintf("it is %s", d.status)
		if d.reason != "" {
			reason += " (" + d.reason + ")"
		}
		return &Error{Op: "update", Stack: s.name, Reason: reason + ": " + advice}
	}
	switch d.status {
	case types.StackStatusReviewInProgress:
		// A change set that nobody has executed has left the name and nothing else.
		if c.Options == nil {
			return nil, fmt.Errorf("%w: %s has no resources, only a change set in review", ErrNoStack, s.name)
		}
		return s.createReserved(ctx, c, d)
	case types.StackStatusRollbackComplete:
		// Its creation failed and all is gone but its name. The id is that of
		// this one, so that a new one of another program stays.
		if c.Options == nil {
			return nil, stuck("its creation failed; `zael deploy` deletes what is left and creates it again")
		}
		return nil, cmp.Or(s.deleteID(ctx, d, &Deletion{Progress: c.Progress}), errStale)
	case types.StackStatusUpdateRollbackFailed:
		return nil, stuck("an update failed, and taking it back too. Remove the cause that the events of the stack name, " +
			"then `aws cloudformation continue-update-rollback --stack-name " + s.name + "` (with --resources-to-skip for what cannot be taken back), and apply again")
	case types.StackStatusUpdateFailed:
		return nil, stuck("an update failed and was not taken back. `aws cloudformation rollback-stack --stack-name " + s.name + "`, and apply again")
	default: // CREATE_FAILED, ROLLBACK_FAILED, DELETE_FAILED, IMPORT_ROLLBACK_FAILED
		return nil, stuck("some of its resources are left, perhaps the table. Look at them, then `zael delete` and apply again")
	}
}

// create makes the stack.
func (s *Stack) create(ctx context.Context, c *Change) (*Result, error) {
	if err := s.refuseTable(ctx, nil); err != nil {
		return nil, err
	}
	w, err := s.desired(ctx, c, nil)
	if err != nil {
		return nil, err
	}
	out, err := s.cfn.CreateStack(ctx, &cloudformation.CreateStackInput{
		StackName: &s.name, TemplateBody: &s.template, Parameters: w.parameters(), Tags: w.tagList(),
		Capabilities: capabilities(), EnableTerminationProtection: aws.Bool(w.protect), OnFailure: types.OnFailureRollback,
		ClientRequestToken: aws.String(requestToken()),
	})
	if hasCode(err, "AlreadyExistsException") {
		return nil, errStale
	}
	if err != nil {
		return nil, s.callFailed(ctx, "create", "CloudFormation refused", err)
	}
	if c.NoWait {
		return s.begun(ctx, aws.ToString(out.StackId), nil)
	}
	watching := &watch{s: s, id: aws.ToString(out.StackId), progress: c.Progress}
	d, err := watching.wait(ctx)
	if err != nil {
		return nil, err
	}
	if d == nil || d.status != types.StackStatusCreateComplete {
		return nil, watching.failure("create", d, "")
	}
	return s.result(ctx, c, d, Created, nil)
}

// createReserved makes the stack whose name a change set has reserved.
func (s *Stack) createReserved(ctx context.Context, c *Change, d *snapshot) (*Result, error) {
	if err := s.refuseTable(ctx, d); err != nil {
		return nil, err
	}
	w, err := s.desired(ctx, c, nil)
	if err != nil {
		return nil, err
	}
	return s.applyChangeSet(ctx, c, d, w, Unchanged)
}

// refuseTable returns an error if the table exists although the stack, nil for none, has
// nothing in it: CloudFormation would begin, fail at the table, and take back the rest.
func (s *Stack) refuseTable(ctx context.Context, d *snapshot) error {
	_, err := s.readRecord(ctx)
	switch {
	case errors.Is(err, dynamostore.ErrNoTable) || isDenied(err):
		return nil
	case err != nil && !hasCode(err, "ValidationException"): // which is the answer of a table with other keys
		return err
	}
	now, err := s.describe(ctx, s.name)
	if err != nil {
		return err
	}
	if d == nil && now != nil || d != nil && !d.sameAs(now) {
		return errStale // another program has made both
	}
	return &Error{Op: "create", Stack: s.name, Reason: "a table " + s.name + " exists that belongs to no stack, as `zael table create` makes them, " +
		"and CloudFormation does not take it over: use another name, or delete the table and everything in it " +
		"with `aws dynamodb delete-table --region " + s.region + " --table-name " + s.name + "`"}
}

// update brings a stack to what c says.
func (s *Stack) update(ctx context.Context, c *Change, d *snapshot) (*Result, error) {
	template, err := s.templateOf(ctx, d.id)
	if err != nil {
		return nil, err
	}
	switch theirs, err := isForeign(template); {
	case err != nil:
		return nil, err
	case theirs:
		return nil, &Error{Op: "update", Stack: s.name, Reason: "another program made it, such as zae-limiter: use another name"}
	}
	if err := s.checkVersions(ctx, c, d); err != nil {
		return nil, err
	}
	if c.OnlyUpgrade {
		kept, err := s.keepsTemplate(template)
		if err != nil {
			return nil, err
		}
		if kept != nil {
			r, err := s.result(ctx, c, d, KeptNewer, nil)
			return r.keeping(kept), err
		}
	}
	w, err := s.desired(ctx, c, d)
	if err != nil {
		return nil, err
	}
	outcome := Unchanged
	if w.protect != d.protected {
		if err := s.setProtection(ctx, d, "update", w.protect); err != nil {
			return nil, err
		}
		outcome = Updated
	}
	if c.KeepTemplate {
		template = s.template
	}
	var r *Result
	if template == s.template && len(w.differences(d)) == 0 {
		r, err = s.result(ctx, c, d, outcome, nil)
	} else {
		r, err = s.applyChangeSet(ctx, c, d, w, outcome)
	}
	return r.keeping(w.kept), err
}

// keeping returns the result, which may be nil, with what stays.
func (r *Result) keeping(kept []Kept) *Result {
	if r != nil {
		r.Kept = kept
	}
	return r
}

// setProtection sets whether CloudFormation refuses to delete a stack.
func (s *Stack) setProtection(ctx context.Context, d *snapshot, op string, on bool) error {
	_, err := s.cfn.UpdateTerminationProtection(ctx, &cloudformation.UpdateTerminationProtectionInput{
		StackName: &d.id, EnableTerminationProtection: &on,
	})
	if err != nil {
		return s.callFailed(ctx, op, "changing its protection from deletion", err)
	}
	return nil
}

// checkVersions returns an error if the table is for programs of other versions.
func (s *Stack) checkVersions(ctx context.Context, c *Change, d *snapshot) error {
	if c.skipVersions {
		return nil
	}
	r, err := s.readRecord(ctx)
	if err != nil || r == nil {
		return s.explainNoTable(ctx, d, err)
	}
	return compareVersions(r, s.version).err
}

// keepsTemplate returns that a deployed template stays, if it is of a newer program.
func (s *Stack) keepsTemplate(template string) ([]Kept, error) {
	theirs, err := templateNumber(template)
	if err != nil {
		return nil, err
	}
	own, err := templateNumber(s.template)
	if err != nil || theirs <= own {
		return nil, err
	}
	return []Kept{{"template", strconv.Itoa(theirs), strconv.Itoa(own), Newer}}, nil
}

// result returns the Result for an up-to-date stack, with its versions recorded.
func (s *Stack) result(ctx context.Context, c *Change, d *snapshot, o Outcome, changes []ResourceChange) (*Result, error) {
	result := &Result{Outcome: o, Stack: s.name, ID: d.id, Status: string(d.status), Changes: changes, Outputs: d.outputs}
	if c.skipVersions {
		return result, nil
	}
	var err error
	if result.Versions, err = s.noteVersions(ctx, d, c.By); err != nil {
		err = s.explainNoTable(ctx, d, err)
		return nil, fmt.Errorf("stack: %s is %s, but its versions could not be noted: %w", s.name, d.status, err)
	}
	return result, nil
}

// callFailed returns the error of a call that was to change the stack.
func (s *Stack) callFailed(ctx context.Context, op, reason string, err error) error {
	switch {
	case ctx.Err() != nil: // the answer is missing: it may have begun
		return &WaitError{Stack: s.name, Cause: ctx.Err()}
	case errors.Is(err, zael.ErrUnavailable):
		reason = "CloudFormation does not answer as it should, and may have begun"
	}
	return &Error{Op: op, Stack: s.name, Reason: reason, Cause: err}
}

// requestToken returns a token by which AWS recognizes a call that the SDK repeats.
func requestToken() string { return "zael-" + strings.ToLower(rand.Text()) }

// begun returns the Result of a change that nobody waits for.
func (s *Stack) begun(ctx context.Context, id string, changes []ResourceChange) (*Result, error) {
	d, err := s.describe(ctx, id)
	if err != nil {
		return nil, err
	}
	r := &Result{Outcome: Begun, Stack: s.name, ID: id, Changes: changes, Outputs: map[string]string{}}
	if d != nil {
		r.Status = string(d.status)
	}
	return r, nil
}

func capabilities() []types.Capability { return []types.Capability{types.CapabilityCapabilityNamedIam} }
