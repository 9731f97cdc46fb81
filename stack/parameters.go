package stack

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/zeroae/zael"
)

// Names of the template's parameters that this package reads again.
const (
	paramWindows            = "Windows"
	paramRetentionDays      = "RetentionDays"
	paramAggregator         = "EnableAggregator"
	paramCodeBucket         = "CodeBucket"
	paramCodeKey            = "CodeKey"
	paramCodeVersion        = "CodeVersion"
	paramArchitecture       = "Architecture"
	paramTimeout            = "LambdaTimeoutSeconds"
	paramMemory             = "LambdaMemoryMB"
	paramLogRetention       = "LogRetentionDays"
	paramPITR               = "PITRRecoveryDays"
	paramDeletionProtection = "DeletionProtection"
	paramAlarms             = "EnableAlarms"
	paramTopic              = "AlarmTopicArn"
	paramDuration           = "DurationAlarmMilliseconds"
	paramBoundaryName       = "PermissionBoundaryName"
	paramBoundaryArn        = "PermissionBoundaryArn"
	paramRoleName           = "RoleName"
)

// msPerPercent is one percent of a second in milliseconds.
const msPerPercent = 10

// Parameters returns the values of the template's parameters for the stack of a name,
// except CodeBucket, CodeKey and CodeVersion, which depend on the code. The options must be
// valid.
func (o Options) Parameters(stack string) map[string]string {
	o = o.WithDefaults()
	names := make([]string, len(o.Windows))
	for i, w := range o.Windows {
		names[i] = string(w)
	}
	boundaryName, boundaryArn := o.PermissionBoundary, ""
	if strings.HasPrefix(o.PermissionBoundary, "arn:") {
		boundaryName, boundaryArn = "", o.PermissionBoundary
	}
	return map[string]string{
		paramWindows:            strings.Join(names, ","),
		paramRetentionDays:      strconv.Itoa(o.RetentionDays),
		paramAggregator:         strconv.FormatBool(!o.NoAggregator),
		paramArchitecture:       o.Architecture,
		paramTimeout:            strconv.Itoa(o.LambdaTimeoutSeconds),
		paramMemory:             strconv.Itoa(o.LambdaMemoryMB),
		paramLogRetention:       strconv.Itoa(o.LogRetentionDays),
		paramPITR:               strconv.Itoa(o.PITRRecoveryDays),
		paramDeletionProtection: strconv.FormatBool(o.DeletionProtection),
		paramAlarms:             strconv.FormatBool(!o.NoAlarms),
		paramTopic:              o.AlarmTopic,
		paramDuration:           strconv.Itoa(o.LambdaTimeoutSeconds * o.LambdaDurationThresholdPct * msPerPercent),
		paramBoundaryName:       boundaryName,
		paramBoundaryArn:        boundaryArn,
		paramRoleName:           o.roleName(stack),
	}
}

// optionsOf returns the options that a stack was deployed with.
func optionsOf(stack string, params, tags map[string]string) (Options, error) {
	var bad error
	number := func(name string) int {
		n, err := strconv.Atoi(params[name])
		if err != nil && bad == nil {
			bad = fmt.Errorf("stack: the parameter %s of %s is %q, which is no number: it was not made by this zael", name, stack, params[name])
		}
		return n
	}
	flag := func(name string) bool {
		yes, err := strconv.ParseBool(params[name])
		if err != nil && bad == nil {
			bad = fmt.Errorf("stack: the parameter %s of %s is %q, which is not true or false: it was not made by this zael", name, stack, params[name])
		}
		return yes
	}
	o := Options{
		RetentionDays:        number(paramRetentionDays),
		NoAggregator:         !flag(paramAggregator),
		Architecture:         params[paramArchitecture],
		LambdaTimeoutSeconds: number(paramTimeout),
		LambdaMemoryMB:       number(paramMemory),
		LogRetentionDays:     number(paramLogRetention),
		PITRRecoveryDays:     number(paramPITR),
		NoAlarms:             !flag(paramAlarms),
		AlarmTopic:           params[paramTopic],
		PermissionBoundary:   params[paramBoundaryName] + params[paramBoundaryArn],
		RoleNameFormat:       strings.Replace(params[paramRoleName], stack+"-aggregator", "{}", 1),
		DeletionProtection:   flag(paramDeletionProtection),
		Tags:                 maps.Clone(tags),
	}
	if o.NoAlarms {
		o.AlarmTopic = "" // which the stack may still have from before
	}
	for name := range strings.SplitSeq(params[paramWindows], ",") {
		o.Windows = append(o.Windows, zael.Window(name))
	}
	if o.LambdaTimeoutSeconds > 0 {
		o.LambdaDurationThresholdPct = number(paramDuration) / (o.LambdaTimeoutSeconds * msPerPercent)
	}
	return o, bad
}

// A Difference is an option that the stack has with another value.
type Difference struct {
	Option   string `json:"option"` // as a parameter of the template, "Tags.<key>", "Template" or "TerminationProtection"
	Deployed string `json:"deployed"`
	Wanted   string `json:"wanted"`
}

// differences compares two maps, in order of name.
func differences(prefix string, deployed, wanted map[string]string) []Difference {
	var all []Difference
	names := slices.AppendSeq(slices.Collect(maps.Keys(deployed)), maps.Keys(wanted))
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		d, isDeployed := deployed[name]
		w, isWanted := wanted[name]
		if d != w || isDeployed != isWanted {
			all = append(all, Difference{prefix + name, d, w})
		}
	}
	return all
}
