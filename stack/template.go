package stack

import (
	_ "embed" // the template
	"fmt"

	"go.yaml.in/yaml/v3"
)

//go:embed template.yaml
var templateText string

// Template is the CloudFormation template, in YAML, as Apply deploys it. Its
// parameters are those of Parameters.
func Template() string { return templateText }

// templateNumber is how new a template is.
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
