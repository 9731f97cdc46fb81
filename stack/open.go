package stack

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/awsconf"
)

// A Config says what Open opens. Only Name is required; a zero field means its default.
type Config struct {
	Name     string // of the limiter; stack and table are ZAEL-<name>
	Region   string // empty: as the user's AWS configuration says
	Endpoint string // of all services, for local development; empty: of AWS

	// AWS replaces the user's configuration. Region and Endpoint override its own
	// where they are not empty.
	AWS *aws.Config

	// Options describe the stack, which Open creates or updates. If they are nil it
	// only connects.
	Options *Options

	Code       Code        // see Change
	CodeBucket string      // see Change
	Progress   func(Event) // see Change

	// NoAutoUpdate keeps an aggregator that is older than this program. Otherwise
	// Open brings it up to date, if there is Code.
	NoAutoUpdate bool

	// AllowVersionMismatch accepts an aggregator that is older than this program and
	// was not brought up to date. Otherwise Open returns a *VersionError.
	AllowVersionMismatch bool

	// SkipVersionCheck neither checks nor records versions. (If Options change the
	// function, a version record forgets the one before.)
	SkipVersionCheck bool

	// Store configures the use of the table: Namespace, CallTimeout and so on.
	// UsageCounted is set where the stack has a function, or may have one; set it where
	// something else counts, such as `zael aggregate`.
	Store dynamostore.Config

	Limiter zael.Config // FailureMode, Timeout, Principal and so on
}

// Open creates or updates the stack if there are Options, checks that versions are
// compatible, and returns a Limiter on its table, whose Close closes the store too. It
// waits for CloudFormation as long as ctx lets it.
//
// Errors are those of New and Apply, *VersionErrors, *zael.ValidationErrors, and those that
// match ErrIncompatibleSchema.
func Open(ctx context.Context, config *Config) (*zael.Limiter, error) {
	if config == nil {
		return nil, invalid("Config", nil, "is nil: it has the name")
	}
	c := *config
	loaded, err := c.load(ctx)
	if err != nil {
		return nil, err
	}
	s, err := New(loaded, c.Name)
	if err != nil {
		return nil, err
	}
	client := dynamostore.NewClient(loaded, func(o *dynamodb.Options) {
		o.DisableValidateResponseChecksum = true // which local engines get wrong; TCP has its own
	})
	return s.open(ctx, client, &c)
}

// load returns the AWS configuration of Open.
func (c *Config) load(ctx context.Context) (aws.Config, error) {
	if c.AWS == nil {
		return awsconf.Load(ctx, c.Region, c.Endpoint)
	}
	given := c.AWS.Copy()
	given.Region = cmp.Or(c.Region, given.Region)
	if c.Endpoint != "" {
		given.BaseEndpoint = &c.Endpoint
	}
	if given.Region == "" {
		return given, invalid("Config.Region", "", "is not set: name one, such as eu-central-1")
	}
	return given, nil
}

func (s *Stack) open(ctx context.Context, client *dynamodb.Client, c *Config) (*zael.Limiter, error) {
	r, err := s.prepare(ctx, c)
	if err != nil {
		return nil, err
	}
	config := c.Store
	if r == nil && c.Options != nil && !c.Options.NoAggregator || r != nil && (r.Lambda != "" || r.Unknown) {
		config.UsageCounted = true
	}
	store, err := dynamostore.New(client, s.name, &config)
	if err != nil {
		return nil, err
	}
	limiter := c.Limiter
	limiter.CloseStore = true
	return zael.New(store, &limiter)
}

// prepare brings the stack up to date and checks the versions. The record is nil if
// versions are not checked.
func (s *Stack) prepare(ctx context.Context, c *Config) (*Record, error) {
	change := Change{
		Options: c.Options, Code: c.Code, CodeBucket: c.CodeBucket, Progress: c.Progress, By: c.Limiter.Principal,
		OnlyUpgrade: true, KeepCode: c.NoAutoUpdate, skipVersions: c.SkipVersionCheck,
	}
	var r *Record
	if c.Options != nil {
		result, err := s.Apply(ctx, change)
		if err != nil {
			return nil, err
		}
		r = result.Versions
	}
	if c.SkipVersionCheck {
		return nil, nil
	}
	if r == nil {
		var err error
		if r, err = s.openRecord(ctx, cmp.Or(c.Limiter.Principal, "zael "+s.version)); err != nil {
			return nil, err
		}
	}
	verdict := compareVersions(r, s.version)
	if verdict.err != nil || !verdict.outdated {
		return r, verdict.err
	}
	var cause error
	if c.Options == nil && !c.NoAutoUpdate && !c.Code.missing() {
		result, err := s.Apply(ctx, change)
		if err == nil {
			return result.Versions, nil
		}
		// A program that may acquire need not be allowed to update, and a table
		// need not have a stack.
		if !isDenied(err) && !errors.Is(err, ErrNoStack) {
			return nil, err
		}
		cause = err
	}
	if !c.AllowVersionMismatch {
		return nil, r.mismatch(s.version, cause)
	}
	return r, nil
}

// A Compatibility says whether this program and a table go together.
type Compatibility struct {
	Client   string  `json:"client_version"` // of this program
	Schema   string  `json:"schema_version"` // that this program is for
	Versions *Record `json:"versions"`       // of the table; nil if it has none yet
	Outdated bool    `json:"outdated"`       // whether the aggregator is older than this program

	// StackStatus is the status of the table's stack, in CloudFormation's words; empty
	// if there is none, or it cannot be read. RecordDifferences are what Versions say
	// otherwise than the stack; none while CloudFormation is at work.
	StackStatus       string             `json:"stack_status,omitempty"`
	RecordDifferences []RecordDifference `json:"record_differences,omitempty"`
}

// Check reads the version record, and the stack where it can, and changes nothing. If the
// program must not work on the table the error matches ErrIncompatibleSchema or is a
// *VersionError, and what was read is returned too.
func (s *Stack) Check(ctx context.Context) (*Compatibility, error) {
	r, err := s.readRecord(ctx)
	if hasCode(err, "ValidationException") {
		return nil, fmt.Errorf("stack: the table %s has other keys than zael's, so that another program made it: use another name: %w", s.name, err)
	}
	if err != nil {
		return nil, err
	}
	c := &Compatibility{Client: s.version, Schema: SchemaVersion, Versions: r}
	d, err := s.lookUp(ctx)
	if ctx.Err() != nil {
		return nil, fmt.Errorf("stack: looking for %s: %w", s.name, ctx.Err())
	}
	if err == nil && d != nil {
		c.StackStatus = string(d.status)
	}
	if r == nil {
		return c, nil
	}
	if err == nil && d != nil && d.updatable() {
		c.RecordDifferences = r.differences(functionOf(d.params))
	}
	verdict := compareVersions(r, s.version)
	c.Outdated = verdict.outdated
	return c, verdict.err
}
