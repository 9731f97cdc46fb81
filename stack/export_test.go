package stack

import (
	"context"
	"time"
)

// What the tests look at of the inside.

type (
	Formation = cfnClient
	Objects   = s3Client
	Identity  = stsClient
	Records   = recordClient
)

var (
	LeastClient = leastClient
	VersionIn   = versionIn
	ListStacks  = listStacks
	OptionsOf   = optionsOf
	OneCall     = oneCall
)

// NewFake is a stack on other clients.
func NewFake(name string, f Formation, o Objects, i Identity, r Records) *Stack {
	return &Stack{
		name: name, region: "eu-central-1", template: templateText, version: Version(),
		cfn: f, s3: o, sts: i, records: r, minPause: time.Millisecond, maxPause: 5 * time.Millisecond, now: time.Now,
	}
}

// Table is where the versions are.
func (s *Stack) Table() Records { return s.records }

// SetTemplate makes the template another one.
func (s *Stack) SetTemplate(text string) *Stack { s.template = text; return s }

// SetVersion makes the program another one.
func (s *Stack) SetVersion(v string) *Stack { s.version = v; return s }

// SetIAM makes the service that knows who uses policies another one.
func (s *Stack) SetIAM(c iamClient) *Stack { s.iam = c; return s }

// Quick looks often at what CloudFormation does.
func (s *Stack) Quick() *Stack {
	s.minPause, s.maxPause = 10*time.Millisecond, 50*time.Millisecond
	return s
}

// Key is where the code is in a bucket.
func (c Code) Key() string { return c.key() }

// Prepare is what Open does before it makes a limiter.
func (s *Stack) Prepare(ctx context.Context, c *Config) (*Record, error) { return s.prepare(ctx, c) }

// Record reads the versions.
func (s *Stack) Record(ctx context.Context) (*Record, error) { return s.readRecord(ctx) }

// WriteRecord sets the versions, whatever they are.
func (s *Stack) WriteRecord(ctx context.Context, r Record) error {
	old, err := s.readRecord(ctx)
	if err != nil {
		return err
	}
	_, err = s.writeRecord(ctx, old, r)
	return err
}

// SkipVersions is the change of a program that does not check versions.
func SkipVersions(c Change) Change { c.skipVersions = true; return c }
