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
	bucket, key, version, err := s.code(ctx, c, d, o)
	if err != nil {
		return nil, err
	}
	w.params[paramCodeBucket], w.params[paramCodeKey], w.params[paramCodeVersion] = bucket, key, version
	return w, nil
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

// code is which code the function is to run, uploaded.
func (s *Stack) code(ctx context.Context, c *Change, d *snapshot, o Options) (bucket, key, version string, err error) {
	if o.NoAggregator {
		return "", "", "", nil
	}
	if d != nil && d.params[paramCodeKey] != "" && d.params[paramArchitecture] == o.Architecture {
		version = d.params[paramCodeVersion]
		keep := c.Code.missing() || c.KeepCode || c.OnlyUpgrade && !older(version, c.Code.Version)
		same := c.Code.key() == d.params[paramCodeKey] && (c.CodeBucket == "" || c.CodeBucket == d.params[paramCodeBucket])
		switch {
		case keep:
			return d.params[paramCodeBucket], d.params[paramCodeKey], version, nil
		case same:
			return d.params[paramCodeBucket], d.params[paramCodeKey], c.Code.Version, nil
		}
	}
	if c.Code.missing() {
		return "", "", "", invalid("Code.Zip", nil, "is empty and the stack is to have an aggregator: "+remedy)
	}
	if err := c.Code.check(o.Architecture); err != nil {
		return "", "", "", err
	}
	bucket, err = s.upload(ctx, c.Code, c.CodeBucket)
	return bucket, c.Code.key(), c.Code.Version, err
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

// differences are what is not as it is to be.
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
