package stack

import (
	_ "embed" // the template
	"fmt"

	"go.yaml.in/yaml/v3"
)

//go:embed template.yaml
var templateText string

// Template returns the CloudFormation template, in YAML, as Apply deploys it. Its
// parameters are those of Options.Parameters.
func Template() string { return templateText }

// isForeign reports whether a template is of another program: zae-limiter names its stacks
// as zael does.
func isForeign(text string) (bool, error) {
	var t struct {
		Metadata struct {
			Zael *struct{} `yaml:"zael"`
		} `yaml:"Metadata"`
	}
	if err := yaml.Unmarshal([]byte(text), &t); err != nil {
		return false, fmt.Errorf("stack: the template cannot be read: %w", err)
	}
	return t.Metadata.Zael == nil, nil
}

// templateNumber returns the number that grows with each change of the template.
func templateNumber(text string) (int, error) {
	var t struct {
		Metadata struct {
			Zael struct {
				Template int `yaml:"Template"`
			} `yaml:"zael"`
		} `yaml:"Metadata"`
	}
	if err := yaml.Unmarshal([]byte(text), &t); err != nil {
		return 0, fmt.Errorf("stack: the template cannot be read: %w", err)
	}
	return t.Metadata.Zael.Template, nil
}
