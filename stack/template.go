package stack

import (
	_ "embed" // the template
	"fmt"
	"sync"

	"go.yaml.in/yaml/v3"
)

//go:embed template.yaml
var templateText string

// Template returns the CloudFormation template, in YAML, as Apply deploys it. Its
// parameters are those of Options.Parameters.
func Template() string { return templateText }

// A templateMark is what a template says of itself.
type templateMark struct {
	Metadata struct {
		Zael *struct {
			Template int `yaml:"Template"`
		} `yaml:"zael"`
	} `yaml:"Metadata"`
}

// ownMark is Template's.
//
//nolint:gochecknoglobals // of a constant text
var ownMark = sync.OnceValues(func() (templateMark, error) { return parseMark(templateText) })

// markOf returns the mark of a template, which is mostly Template: that is parsed once.
func markOf(text string) (templateMark, error) {
	if text == templateText {
		return ownMark()
	}
	return parseMark(text)
}

func parseMark(text string) (m templateMark, err error) {
	if err := yaml.Unmarshal([]byte(text), &m); err != nil {
		return m, fmt.Errorf("stack: the template cannot be read: %w", err)
	}
	return m, nil
}

// isForeign reports whether a template is of another program: zae-limiter names its stacks
// as zael does.
func isForeign(text string) (bool, error) {
	m, err := markOf(text)
	return err == nil && m.Metadata.Zael == nil, err
}

// templateNumber returns the number that grows with each change of the template.
func templateNumber(text string) (int, error) {
	m, err := markOf(text)
	if err != nil || m.Metadata.Zael == nil {
		return 0, err
	}
	return m.Metadata.Zael.Template, nil
}
