package stack

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/zeroae/zael"
)

// Architectures of the function.
const (
	ARM64 = "arm64"
	X8664 = "x86_64"
)

// Options describe a stack. The zero Options are the defaults.
type Options struct {
	// Windows are those in which usage is counted, in any order; none means hourly
	// and daily.
	Windows []zael.Window `json:"snapshot_windows"`

	// RetentionDays is how long usage is kept, 1 to 3650; 0 is 90.
	RetentionDays int `json:"retention_days"`

	// NoAggregator leaves out the function that counts usage, with its queue,
	// log and role. `zael aggregate` can count instead.
	NoAggregator bool `json:"no_aggregator"`

	// Architecture is what the function's code is built for, ARM64 or X8664;
	// empty is ARM64, which is cheaper.
	Architecture string `json:"architecture"`

	// LambdaTimeoutSeconds is how long one call of the function may take, 1 to
	// 900; 0 is 60.
	LambdaTimeoutSeconds int `json:"lambda_timeout"`

	// LambdaMemoryMB is the function's memory, 128 to 3008; 0 is 256.
	LambdaMemoryMB int `json:"lambda_memory"`

	// LogRetentionDays is how long the function's log is kept, a number of
	// CloudWatch's list; 0 is 30.
	LogRetentionDays int `json:"log_retention_days"`

	// PITRRecoveryDays is how far back the table can be restored, 1 to 35; 0
	// is not at all.
	PITRRecoveryDays int `json:"pitr_recovery_days"`

	// NoAlarms leaves out the alarms.
	NoAlarms bool `json:"no_alarms"`

	// AlarmTopic is the ARN of the SNS topic, in the stack's region, that alarms
	// are sent to; empty is none. Without alarms it must be empty.
	AlarmTopic string `json:"alarm_sns_topic"`

	// LambdaDurationThresholdPct is the share of its timeout, in percent, that a call
	// of the function may take without an alarm, 1 to 100; 0 is 80.
	LambdaDurationThresholdPct int `json:"lambda_duration_threshold_pct"`

	// PermissionBoundary bounds the function's role: the name of a policy of
	// the account, or any policy's ARN; empty is none.
	PermissionBoundary string `json:"permission_boundary"`

	// RoleNameFormat is the name of the function's role, with exactly one {} for
	// ZAEL-<name>-aggregator, such as "app-{}"; at most 64 characters in all. If it
	// is empty CloudFormation chooses a name.
	RoleNameFormat string `json:"role_name_format"`

	// DeletionProtection protects table and stack from deletion; Delete refuses too.
	DeletionProtection bool `json:"deletion_protection"`

	// Tags are the tags of the stack, which CloudFormation gives to everything in it.
	Tags map[string]string `json:"tags"`
}

// Defaults of the zero Options.
const (
	defaultRetentionDays    = 90
	defaultTimeoutSeconds   = 60
	defaultMemoryMB         = 256
	defaultLogRetentionDays = 30
	defaultDurationPct      = 80
	maxRoleName             = 64
	maxTags                 = 50
)

// windows in the order in which the template has them.
func windows() []zael.Window { return []zael.Window{zael.Hourly, zael.Daily, zael.Monthly} }

// LogRetentions returns the values that LogRetentionDays can have: CloudWatch's.
func LogRetentions() []int {
	return []int{1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653}
}

// WithDefaults returns the options with each zero field set to its default, and the
// windows in order.
func (o Options) WithDefaults() Options {
	ordered := slices.DeleteFunc(windows(), func(w zael.Window) bool { return !slices.Contains(o.Windows, w) })
	if len(o.Windows) == 0 {
		ordered = []zael.Window{zael.Hourly, zael.Daily}
	}
	o.Windows = ordered
	o.RetentionDays = cmp.Or(o.RetentionDays, defaultRetentionDays)
	o.Architecture = cmp.Or(o.Architecture, ARM64)
	o.LambdaTimeoutSeconds = cmp.Or(o.LambdaTimeoutSeconds, defaultTimeoutSeconds)
	o.LambdaMemoryMB = cmp.Or(o.LambdaMemoryMB, defaultMemoryMB)
	o.LogRetentionDays = cmp.Or(o.LogRetentionDays, defaultLogRetentionDays)
	o.LambdaDurationThresholdPct = cmp.Or(o.LambdaDurationThresholdPct, defaultDurationPct)
	o.Tags = maps.Clone(o.Tags)
	return o
}

func invalid(field string, v any, reason string) error {
	return &zael.ValidationError{Field: field, Value: v, Reason: reason}
}

// Validate checks the options of the stack of a name, ZAEL-<name>. The error is a
// *zael.ValidationError whose field is "Options." and the name of the field.
func (o Options) Validate(stack string) error {
	for i, w := range o.Windows {
		if !slices.Contains(windows(), w) || slices.Contains(o.Windows[:i], w) {
			return invalid("Options.Windows", string(w), "is not one of hourly, daily and monthly, each once: leave it empty for hourly and daily")
		}
	}
	o = o.WithDefaults()
	for _, n := range []struct {
		field            string
		n, least, most   int
		unit, whatIsZero string
	}{
		{"RetentionDays", o.RetentionDays, 1, 3650, "days", "90"},
		{"LambdaTimeoutSeconds", o.LambdaTimeoutSeconds, 1, 900, "seconds", "60"},
		{"LambdaMemoryMB", o.LambdaMemoryMB, 128, 3008, "MB", "256"},
		{"PITRRecoveryDays", o.PITRRecoveryDays, 0, 35, "days", "no recovery"},
		{"LambdaDurationThresholdPct", o.LambdaDurationThresholdPct, 1, 100, "percent of the timeout", "80"},
	} {
		if n.n < n.least || n.n > n.most {
			return invalid("Options."+n.field, n.n, fmt.Sprintf("is not %d to %d %s: use 0 for %s", max(n.least, 1), n.most, n.unit, n.whatIsZero))
		}
	}
	if !slices.Contains(LogRetentions(), o.LogRetentionDays) {
		return invalid("Options.LogRetentionDays", o.LogRetentionDays, fmt.Sprintf("is not one of the days that CloudWatch has: %s", joinInts(LogRetentions())))
	}
	if o.Architecture != ARM64 && o.Architecture != X8664 {
		return invalid("Options.Architecture", o.Architecture, "is not arm64 or x86_64")
	}
	return cmp.Or(o.validateNames(stack), o.validateTags())
}

func joinInts(days []int) string {
	texts := make([]string, len(days))
	for i, d := range days {
		texts[i] = strconv.Itoa(d)
	}
	return strings.Join(texts, " ")
}

func (o Options) validateNames(stack string) error {
	if o.AlarmTopic != "" && !regexp.MustCompile(`^arn:[a-z0-9-]+:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}$`).MatchString(o.AlarmTopic) {
		return invalid("Options.AlarmTopic", o.AlarmTopic, "is not the ARN of an SNS topic, like arn:aws:sns:eu-central-1:123456789012:alarms")
	}
	if o.AlarmTopic != "" && o.NoAlarms {
		return invalid("Options.AlarmTopic", o.AlarmTopic, "is where alarms are sent to, and Options.NoAlarms leaves them out: set one of the two")
	}
	isARN := strings.HasPrefix(o.PermissionBoundary, "arn:")
	switch {
	case isARN && !regexp.MustCompile(`^arn:[a-z0-9-]+:iam::([0-9]{12}|aws):policy/[A-Za-z0-9+=,.@_/-]+$`).MatchString(o.PermissionBoundary):
		return invalid("Options.PermissionBoundary", o.PermissionBoundary, "is not the ARN of an IAM policy, like arn:aws:iam::123456789012:policy/boundary")
	case !isARN && !regexp.MustCompile(`^[A-Za-z0-9+=,.@_/-]{0,512}$`).MatchString(o.PermissionBoundary):
		return invalid("Options.PermissionBoundary", o.PermissionBoundary, "is neither the name nor the ARN of an IAM policy")
	}
	switch name := o.roleName(stack); {
	case o.RoleNameFormat == "":
	case strings.Count(o.RoleNameFormat, "{}") != 1:
		return invalid("Options.RoleNameFormat", o.RoleNameFormat, `has not exactly one {}, where the role's own name goes: write it like "app-{}"`)
	case !regexp.MustCompile(`^[A-Za-z0-9+=,.@_-]+$`).MatchString(name):
		return invalid("Options.RoleNameFormat", o.RoleNameFormat, "has other characters than A-Z a-z 0-9 + = , . @ _ -, which are what a role's name can have")
	case len(name) > maxRoleName:
		return invalid("Options.RoleNameFormat", o.RoleNameFormat, fmt.Sprintf("makes a name of %d characters, %s: a role's name has at most %d", len(name), name, maxRoleName))
	}
	return nil
}

// validate is Options.Validate for this stack, and its region.
func (s *Stack) validate(o *Options) error {
	if err := o.Validate(s.name); err != nil || o.AlarmTopic == "" {
		return err
	}
	if region := strings.Split(o.AlarmTopic, ":")[3]; region != s.region {
		return invalid("Options.AlarmTopic", o.AlarmTopic, "is in "+region+" and the stack in "+s.region+": alarms are sent to topics of their own region only")
	}
	return nil
}

// roleName returns the name of the function's role; empty if CloudFormation chooses one.
func (o Options) roleName(stack string) string {
	return strings.Replace(o.RoleNameFormat, "{}", stack+"-aggregator", 1)
}

func (o Options) validateTags() error {
	if len(o.Tags) > maxTags {
		return invalid("Options.Tags", len(o.Tags), fmt.Sprintf("are more than the %d that a stack can have", maxTags))
	}
	if len(o.Tags) == 0 {
		return nil
	}
	allowed := regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$`)
	for _, key := range slices.Sorted(maps.Keys(o.Tags)) {
		value := o.Tags[key]
		switch {
		case key == "" || len([]rune(key)) > 128 || len([]rune(value)) > 256:
			return invalid("Options.Tags", key, "is not 1 to 128 characters long, or its value is longer than 256")
		case strings.HasPrefix(strings.ToLower(key), "aws:"):
			return invalid("Options.Tags", key, "begins with aws:, which AWS keeps for itself")
		case !allowed.MatchString(key) || !allowed.MatchString(value):
			return invalid("Options.Tags", key, "or its value has other characters than letters, digits, spaces and _ . : / = + - @")
		}
	}
	return nil
}
