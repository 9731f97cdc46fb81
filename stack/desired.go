package stack

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
)

// A desired is what a stack should be, in the template's words.
type desired struct {
	params  map[string]string
	tags    map[string]string
	protect bool
	kept    []Kept
}

// desired returns what c makes of a stack; d is nil if there is none. It uploads code that
// is new.
func (s *Stack) desired(ctx context.Context, c *Change, d *snapshot) (*desired, error) {
	var o Options
	if c.Options != nil {
		o = *c.Options
	} else {
		var err error
		if o, err = optionsOf(s.name, d.params, d.tags); err != nil {
			return nil, err
		}
	}
	o = o.WithDefaults()
	w := s.desiredBy(o, d)
	if c.Options == nil { // all stays as it is, also what Options cannot say
		w.protect = d.protected
		for name := range w.params {
			if v, ok := d.params[name]; ok {
				w.params[name] = v
			}
		}
	}
	if o.NoAggregator {
		w.setCode(codeRef{})
		return w, nil
	}
	if d != nil && d.params[paramCodeKey] != "" && d.params[paramArchitecture] == o.Architecture {
		deployed := codeRef{d.params[paramCodeBucket], d.params[paramCodeKey], d.params[paramCodeVersion]}
		if reason := c.keepsCode(deployed.version); reason != "" {
			w.setCode(deployed)
			if c.OnlyUpgrade && deployed.key != c.Code.key() && (reason != NoCode || older(deployed.version, s.version)) {
				w.kept = append(w.kept, Kept{"aggregator", cmp.Or(deployed.version, devel), c.Code.Version, reason})
			}
			return w, nil
		}
		if deployed.key == c.Code.key() && (c.CodeBucket == "" || c.CodeBucket == deployed.bucket) {
			w.setCode(codeRef{deployed.bucket, deployed.key, c.Code.Version})
			return w, nil
		}
	}
	code, err := s.uploaded(ctx, c, o.Architecture)
	if err != nil {
		return nil, err
	}
	w.setCode(code)
	return w, nil
}

// A codeRef is code in a bucket.
type codeRef struct{ bucket, key, version string }

func (w *desired) setCode(c codeRef) {
	w.params[paramCodeBucket], w.params[paramCodeKey], w.params[paramCodeVersion] = c.bucket, c.key, c.version
}

// uploaded returns the change's code, uploaded.
func (s *Stack) uploaded(ctx context.Context, c *Change, architecture string) (codeRef, error) {
	if c.Code.missing() {
		return codeRef{}, invalid("Code.Zip", nil, "is empty and the stack is to have an aggregator: "+remedy)
	}
	if err := c.Code.check(architecture); err != nil {
		return codeRef{}, err
	}
	bucket, err := s.upload(ctx, c.Code, c.CodeBucket)
	return codeRef{bucket, c.Code.key(), c.Code.Version}, err
}

// A KeptReason says why a part of a stack stays.
type KeptReason string

// The reasons.
const (
	Newer        KeptReason = "newer"        // than this program's
	SameVersion  KeptReason = "same version" // and yet not the same
	Incomparable KeptReason = "incomparable" // one of the two has no place in the order of versions
	NoCode       KeptReason = "no code"      // of the aggregator in this program
	Asked        KeptReason = "asked"        // by Change.KeepCode
)

// A Kept is a part of a stack that stays although this program has another one.
type Kept struct {
	Part     string     `json:"part"`     // "template" or "aggregator"
	Deployed string     `json:"deployed"` // its version; the template's number
	Own      string     `json:"own"`      // that of this program
	Reason   KeptReason `json:"reason"`
}

// keepsCode returns why code of a version stays; empty if it does not.
func (c *Change) keepsCode(version string) KeptReason {
	switch {
	case c.Code.missing():
		return NoCode
	case c.KeepCode:
		return Asked
	case !c.OnlyUpgrade || older(version, c.Code.Version):
		return ""
	case older(c.Code.Version, version):
		return Newer
	case release(version) == "" || release(c.Code.Version) == "":
		return Incomparable
	}
	return SameVersion
}

// desiredBy returns what the options alone say. A parameter that changes nothing in the
// stack, such as the topic of no alarms, stays as deployed: CloudFormation refuses a
// change set that is about nothing else.
func (s *Stack) desiredBy(o Options, d *snapshot) *desired {
	w := &desired{params: o.Parameters(s.name), tags: o.Tags, protect: o.DeletionProtection}
	if w.tags == nil {
		w.tags = map[string]string{}
	}
	if d == nil {
		return w
	}
	var idle []string
	if o.NoAggregator && d.params[paramAggregator] == "false" {
		idle = []string{
			paramWindows, paramRetentionDays, paramArchitecture, paramTimeout, paramMemory, paramLogRetention,
			paramDuration, paramBoundaryName, paramBoundaryArn, paramRoleName,
		}
	}
	if o.NoAlarms && d.params[paramAlarms] == "false" {
		idle = append(idle, paramTopic, paramDuration)
	}
	for _, name := range idle {
		if v, ok := d.params[name]; ok {
			w.params[name] = v
		}
	}
	return w
}

func (w *desired) parameters() []types.Parameter {
	var list []types.Parameter
	for _, name := range slices.Sorted(maps.Keys(w.params)) {
		list = append(list, types.Parameter{ParameterKey: aws.String(name), ParameterValue: aws.String(w.params[name])})
	}
	return list
}

func (w *desired) tagList() []types.Tag {
	list := []types.Tag{} // none takes those away that there are
	for _, key := range slices.Sorted(maps.Keys(w.tags)) {
		list = append(list, types.Tag{Key: aws.String(key), Value: aws.String(w.tags[key])})
	}
	return list
}

// differences returns what differs from a stack.
func (w *desired) differences(d *snapshot) []Difference {
	return slices.Concat(differences("", d.params, w.params), differences("Tags.", d.tags, w.tags))
}

// A ResourceChange is what an update does to a resource.
type ResourceChange struct {
	Action      string `json:"action"`   // "Add", "Modify" or "Remove"
	Resource    string `json:"resource"` // its name in the template
	Type        string `json:"type"`
	Replacement string `json:"replacement,omitempty"` // "True", "False" or "Conditional"
}

func changesOf(found []types.Change) []ResourceChange {
	var all []ResourceChange
	for _, c := range found {
		if r := c.ResourceChange; r != nil {
			all = append(all, ResourceChange{
				Action: string(r.Action), Resource: aws.ToString(r.LogicalResourceId), Type: aws.ToString(r.ResourceType),
				Replacement: string(cmp.Or(r.Replacement, "")),
			})
		}
	}
	return all
}
