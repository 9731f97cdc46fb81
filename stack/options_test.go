package stack_test

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/stack"
)

func many(n int) map[string]string {
	m := map[string]string{}
	for i := range n {
		m[fmt.Sprint("k", i)] = "v"
	}
	return m
}

func TestOptionsAreValidated(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		field, says string
		options     stack.Options
	}{
		{"Windows", "hourly, daily and monthly", stack.Options{Windows: []zael.Window{"weekly"}}},
		{"Windows", "each once", stack.Options{Windows: []zael.Window{zael.Hourly, zael.Hourly}}},
		{"RetentionDays", "1 to 3650 days: use 0 for 90", stack.Options{RetentionDays: -1}},
		{"RetentionDays", "1 to 3650", stack.Options{RetentionDays: 3651}},
		{"LambdaTimeoutSeconds", "1 to 900 seconds: use 0 for 60", stack.Options{LambdaTimeoutSeconds: 901}},
		{"LambdaMemoryMB", "128 to 3008 MB: use 0 for 256", stack.Options{LambdaMemoryMB: 127}},
		{"LambdaMemoryMB", "128 to 3008", stack.Options{LambdaMemoryMB: 3009}},
		{"PITRRecoveryDays", "1 to 35 days: use 0 for no recovery", stack.Options{PITRRecoveryDays: 36}},
		{"PITRRecoveryDays", "1 to 35", stack.Options{PITRRecoveryDays: -1}},
		{"LogRetentionDays", "1 3 5 7 14 30", stack.Options{LogRetentionDays: 2}},
		{"LambdaDurationThresholdPct", "1 to 100", stack.Options{LambdaDurationThresholdPct: 101}},
		{"Architecture", "arm64 or x86_64", stack.Options{Architecture: "amd64"}},
		{"AlarmTopic", "arn:aws:sns:", stack.Options{AlarmTopic: "alarms"}},
		{"AlarmTopic", "NoAlarms leaves them out", stack.Options{AlarmTopic: topicOf("eu-central-1"), NoAlarms: true}},
		{"PermissionBoundary", "arn:aws:iam::", stack.Options{PermissionBoundary: "arn:aws:iam::1:policy/x"}},
		{"PermissionBoundary", "neither the name", stack.Options{PermissionBoundary: "a b"}},
		{"RoleNameFormat", "exactly one {}", stack.Options{RoleNameFormat: "x"}},
		{"RoleNameFormat", "exactly one {}", stack.Options{RoleNameFormat: "{}{}"}},
		{"RoleNameFormat", "other characters", stack.Options{RoleNameFormat: "a/{}"}},
		{"RoleNameFormat", "at most 64", stack.Options{RoleNameFormat: strings.Repeat("x", 46) + "{}"}},
		{"Tags", "more than the 50", stack.Options{Tags: many(51)}},
		{"Tags", "begins with aws:", stack.Options{Tags: map[string]string{"AWS:x": "y"}}},
		{"Tags", "1 to 128 characters", stack.Options{Tags: map[string]string{"": "y"}}},
		{"Tags", "longer than 256", stack.Options{Tags: map[string]string{"k": strings.Repeat("v", 257)}}},
		{"Tags", "other characters", stack.Options{Tags: map[string]string{"k": "<"}}},
	} {
		err := c.options.Validate(fakeName)
		var v *zael.ValidationError
		if !errors.As(err, &v) || v.Field != "Options."+c.field || !strings.Contains(v.Reason, c.says) {
			t.Errorf("%+v: got %v, want a *ValidationError of Options.%s that says %q", c.options, err, c.field, c.says)
		}
		if _, err := fake(t).Apply(t.Context(), stack.Change{Options: &c.options}); !errors.As(err, &v) {
			t.Errorf("Apply of %+v: got %v, want the *ValidationError, and no call", c.options, err)
		}
	}
}

func topicOf(region string) string { return "arn:aws:sns:" + region + ":123456789012:alarms" }

// CloudWatch sends alarms to topics of their own region only.
func TestTopicOfAnotherRegion(t *testing.T) {
	t.Parallel()
	o := &stack.Options{NoAggregator: true, AlarmTopic: topicOf("us-east-1")}
	_, apply := fake(t).Apply(t.Context(), stack.Change{Options: o})
	_, status := fake(t).Status(t.Context(), o)
	for what, err := range map[string]error{"Apply": apply, "Status": status} {
		var v *zael.ValidationError
		if !errors.As(err, &v) || v.Field != "Options.AlarmTopic" || !strings.Contains(v.Reason, "is in us-east-1 and the stack in eu-central-1") {
			t.Errorf("%s: got %v, want a *ValidationError of the topic, and no call", what, err)
		}
	}
}

// A topic that a stack has from before its alarms went is no option any more.
func TestTopicOfNoAlarms(t *testing.T) {
	t.Parallel()
	params := (&stack.Options{NoAlarms: true}).Parameters(fakeName)
	params["AlarmTopicArn"] = topicOf("eu-central-1")
	o, err := stack.OptionsOf(fakeName, params, nil)
	if err != nil || o.AlarmTopic != "" || o.Validate(fakeName) != nil {
		t.Errorf("got %+v and %v, want options without a topic, that are valid", o, err)
	}
}

// Each extreme is right, and comes back from the parameters that it makes.
func TestOptionsComeBack(t *testing.T) {
	t.Parallel()
	for _, o := range []stack.Options{
		{},
		{
			Windows: []zael.Window{zael.Hourly}, RetentionDays: 1, NoAggregator: true, Architecture: stack.X8664, LambdaTimeoutSeconds: 1, LambdaMemoryMB: 128,
			LogRetentionDays: 1, PITRRecoveryDays: 1, AlarmTopic: "arn:aws-cn:sns:cn-north-1:123456789012:t", LambdaDurationThresholdPct: 1,
			PermissionBoundary: "b", RoleNameFormat: "x{}y", DeletionProtection: true, Tags: map[string]string{"a": "", "Ä b": "c=d"},
		},
		{
			Windows: []zael.Window{zael.Hourly, zael.Daily, zael.Monthly}, RetentionDays: 3650, NoAlarms: true, LambdaTimeoutSeconds: 900, LambdaMemoryMB: 3008, LogRetentionDays: 3653,
			PITRRecoveryDays: 35, LambdaDurationThresholdPct: 100, PermissionBoundary: "arn:aws:iam::aws:policy/P", RoleNameFormat: "{}", Tags: many(50),
		},
		{LambdaTimeoutSeconds: 7, LambdaDurationThresholdPct: 33},
	} {
		if err := o.Validate(fakeName); err != nil {
			t.Errorf("%+v: got %v, want nil", o, err)
		}
		got, err := stack.OptionsOf(fakeName, o.Parameters(fakeName), o.Tags)
		if want := o.WithDefaults(); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("from the parameters: got %+v and %v, want %+v", got, err, want)
		}
	}
	if _, err := stack.OptionsOf(fakeName, map[string]string{}, nil); err == nil {
		t.Error("the options of foreign parameters: got nil, want an error")
	}
}

// The parameters that options make are those that the template has, within its
// bounds; the template's own defaults are those of the options.
func TestParametersAreTheTemplates(t *testing.T) {
	t.Parallel()
	r := render(t, nil)
	params := r.root["Parameters"].(map[string]any)
	made := (&stack.Options{}).Parameters(fakeName)
	for name, p := range params {
		value, ok := made[name]
		if strings.HasPrefix(name, "Code") {
			if ok {
				t.Errorf("%s: got %q from the options, want none", name, value)
			}
			continue
		}
		if def := p.(map[string]any)["Default"]; value != def {
			t.Errorf("%s: got %q by default, want %q as in the template", name, value, def)
		}
	}
	for name := range made {
		if params[name] == nil {
			t.Errorf("%s: got no such parameter in the template", name)
		}
	}
	bounds := func(param string, least, most int) {
		p := params[param].(map[string]any)
		if p["MinValue"] != strconv.Itoa(least) || p["MaxValue"] != strconv.Itoa(most) {
			t.Errorf("%s: got %v to %v in the template, want %d to %d", param, p["MinValue"], p["MaxValue"], least, most)
		}
	}
	bounds("RetentionDays", 1, 3650)
	bounds("LambdaTimeoutSeconds", 1, 900)
	bounds("LambdaMemoryMB", 128, 3008)
	bounds("PITRRecoveryDays", 0, 35)
	var days []any
	for _, d := range stack.LogRetentions() {
		days = append(days, strconv.Itoa(d))
	}
	if got := params["LogRetentionDays"].(map[string]any)["AllowedValues"]; !reflect.DeepEqual(got, days) {
		t.Errorf("LogRetentionDays: got %v in the template, want %v", got, days)
	}
	if !slices.Equal(slices.Sorted(maps.Keys(made)), slices.DeleteFunc(slices.Sorted(maps.Keys(params)), func(s string) bool { return strings.HasPrefix(s, "Code") })) {
		t.Error("the parameters of the options and of the template: got others")
	}
}

// One leading ZAEL- is taken away; the rest is checked.
func TestName(t *testing.T) {
	t.Parallel()
	c := configOf(t, "http://127.0.0.1:1")
	for name, want := range map[string]string{"demo": "ZAEL-demo", "ZAEL-demo": "ZAEL-demo", "ZAEL-ZAEL-x": "ZAEL-ZAEL-x", strings.Repeat("a", 33): "ZAEL-" + strings.Repeat("a", 33)} {
		s, err := stack.New(c, name)
		if err != nil || s.Name() != want {
			t.Errorf("New(%q): got %v, want %s", name, err, want)
		}
	}
	for _, name := range []string{"", "ZAEL-", "1a", "a_b", "a.b", "ä", "a b", strings.Repeat("a", 34)} {
		var v *zael.ValidationError
		if _, err := stack.New(c, name); !errors.As(err, &v) {
			t.Errorf("New(%q): got %v, want a *ValidationError", name, err)
		}
	}
}
