package stack_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/zeroae/zael"
	"github.com/zeroae/zael/dynamostore"
	"github.com/zeroae/zael/internal/testrig/ministack"
	"github.com/zeroae/zael/stack"
)

// The linter's word for the template, hints included. What it is told to ignore has
// its reason in the template.
func TestLint(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), ministack.Program(t, "cfn-lint"), "--include-checks", "I", "--template", "template.yaml").CombinedOutput()
	if err != nil {
		t.Errorf("cfn-lint: got %v, want nothing to say:\n%s", err, out)
	}
	for i, line := range strings.Split(stack.Template(), "\n") {
		if check := strings.TrimSpace(line); strings.HasPrefix(check, "- W") || strings.HasPrefix(check, "- E") || strings.HasPrefix(check, "- I") {
			if len(check) == len("- W1030") {
				t.Errorf("line %d: %s is ignored: got no reason, want one", i+1, check)
			}
		}
	}
}

// CreateStack takes no longer text.
func TestTemplateFits(t *testing.T) {
	t.Parallel()
	if got := len(stack.Template()); got > 51_200 {
		t.Errorf("template: got %d bytes, want 51,200 at most", got)
	}
}

// A change of the template needs a greater number, and another text here.
func TestTemplateNumber(t *testing.T) {
	t.Parallel()
	sum := sha256.Sum256([]byte(stack.Template()))
	const want = templateSum
	if got := hex.EncodeToString(sum[:]); got != want {
		t.Errorf("the template has changed: since a release, make its Metadata.zael.Template one more; then templateSum is %s", got)
	}
	if !strings.Contains(stack.Template(), "\n    Template: 1\n") {
		t.Error("the template: got another number, want 1")
	}
}

// The table is the one that CreateTable makes.
func TestTableIsThatOfDynamostore(t *testing.T) {
	t.Parallel()
	r := render(t, nil)
	in := dynamostore.TableInput(fakeName)
	attributes, keys, indexKeys := []any{}, []any{}, []any{}
	for _, a := range in.AttributeDefinitions {
		attributes = append(attributes, map[string]any{"AttributeName": aws.ToString(a.AttributeName), "AttributeType": string(a.AttributeType)})
	}
	for _, k := range in.KeySchema {
		keys = append(keys, map[string]any{"AttributeName": aws.ToString(k.AttributeName), "KeyType": string(k.KeyType)})
	}
	if len(in.GlobalSecondaryIndexes) != 1 {
		t.Fatalf("indices of TableInput: got %d, want 1", len(in.GlobalSecondaryIndexes))
	}
	index := in.GlobalSecondaryIndexes[0]
	for _, k := range index.KeySchema {
		indexKeys = append(indexKeys, map[string]any{"AttributeName": aws.ToString(k.AttributeName), "KeyType": string(k.KeyType)})
	}
	want := map[string]any{
		"TableName": aws.ToString(in.TableName), "BillingMode": string(in.BillingMode), "AttributeDefinitions": attributes, "KeySchema": keys,
		"GlobalSecondaryIndexes": []any{map[string]any{
			"IndexName": aws.ToString(index.IndexName), "KeySchema": indexKeys, "Projection": map[string]any{"ProjectionType": string(index.Projection.ProjectionType)},
		}},
		"StreamSpecification":              map[string]any{"StreamViewType": string(in.StreamSpecification.StreamViewType)},
		"TimeToLiveSpecification":          map[string]any{"AttributeName": "ttl", "Enabled": "true"},
		"DeletionProtectionEnabled":        "false",
		"PointInTimeRecoverySpecification": map[string]any{"PointInTimeRecoveryEnabled": "false"},
	}
	if got := r.Resources["Table"]["Properties"]; !reflect.DeepEqual(got, want) {
		t.Errorf("table: got\n%v\nwant\n%v", got, want)
	}
	r = render(t, &stack.Options{PITRRecoveryDays: 7, DeletionProtection: true})
	r.is(map[string]any{"PointInTimeRecoveryEnabled": "true", "RecoveryPeriodInDays": "7"}, "Table", "PointInTimeRecoverySpecification")
	r.is("true", "Table", "DeletionProtectionEnabled")
}

// What refers to the stream: the table has one, whatever the options say. The
// linter does not see that.
func TestStreamArnOnlyWithAStream(t *testing.T) {
	t.Parallel()
	for _, o := range []*stack.Options{nil, bare(), {NoAlarms: true}} {
		r := render(t, o)
		if !strings.Contains(fmt.Sprint(r.Resources, r.Outputs), "Table.StreamArn") {
			t.Fatal("nothing refers to the stream")
		}
		r.is("NEW_AND_OLD_IMAGES", "Table", "StreamSpecification", "StreamViewType")
	}
}

// No reference leads to a resource or output that a condition has left out.
func TestReferencesHold(t *testing.T) {
	t.Parallel()
	conditional := func(r *rendered) (names []string) {
		for name, v := range r.root["Resources"].(map[string]any) {
			if _, ok := v.(map[string]any)["Condition"]; ok {
				names = append(names, name)
			}
		}
		return names
	}
	for _, o := range []*stack.Options{{NoAggregator: true}, {NoAlarms: true}, {NoAggregator: true, NoAlarms: true}, {}} {
		r := render(t, o)
		for _, name := range conditional(r) {
			if _, ok := r.Resources[name]; ok {
				continue
			}
			for where, v := range r.Resources {
				if text := fmt.Sprint(v["Properties"]); strings.Contains(text, ":"+name+".") || strings.Contains(text, ":"+name+" ") || strings.Contains(text, ":"+name+"]") {
					t.Errorf("%+v: %s refers to %s, which is not there", o, where, name)
				}
			}
			for where, v := range r.Outputs {
				if value := fmt.Sprint(v["Value"]); value == name || strings.HasPrefix(value, name+".") {
					t.Errorf("%+v: output %s refers to %s, which is not there", o, where, name)
				}
			}
		}
	}
}

func TestFunction(t *testing.T) {
	t.Parallel()
	r := render(t, &stack.Options{Windows: []zael.Window{zael.Monthly, zael.Daily}, RetentionDays: 7, LambdaTimeoutSeconds: 30, LambdaMemoryMB: 128, LogRetentionDays: 1, Architecture: stack.X8664})
	r.is("provided.al2023", "Aggregator", "Runtime")
	r.is("bootstrap", "Aggregator", "Handler")
	r.is([]any{"x86_64"}, "Aggregator", "Architectures")
	r.is("30", "Aggregator", "Timeout")
	r.is("128", "Aggregator", "MemorySize")
	r.is(fakeName+"-aggregator", "Aggregator", "FunctionName")
	r.is(map[string]any{"ZAEL_TABLE": "Table", "ZAEL_WINDOWS": "daily,monthly", "ZAEL_RETENTION_DAYS": "7"}, "Aggregator", "Environment", "Variables")
	r.is("1", "LogGroup", "RetentionInDays")
	r.is("/aws/lambda/"+fakeName+"-aggregator", "LogGroup", "LogGroupName")
	r.is("1209600", "DeadLetters", "MessageRetentionPeriod")
	render(t, nil).is([]any{"arm64"}, "Aggregator", "Architectures")
	if left := render(t, bare()).Resources; left["Aggregator"] != nil || left["Mapping"] != nil || left["DeadLetters"] != nil || left["AggregatorRole"] != nil || left["LogGroup"] != nil {
		t.Error("without the aggregator: got parts of it, want none")
	}
}

func TestMapping(t *testing.T) {
	t.Parallel()
	r := render(t, nil)
	for name, want := range map[string]any{
		"StartingPosition": "TRIM_HORIZON", "BatchSize": "100", "MaximumBatchingWindowInSeconds": "5", "MaximumRetryAttempts": "3", "MaximumRecordAgeInSeconds": "-1",
		"BisectBatchOnFunctionError": "true", "FunctionResponseTypes": []any{"ReportBatchItemFailures"}, "EventSourceArn": "Table.StreamArn", "FunctionName": "Aggregator",
	} {
		r.is(want, "Mapping", name)
	}
	r.is("DeadLetters.Arn", "Mapping", "DestinationConfig", "OnFailure", "Destination")
}

// The filter lets buckets through, and nothing else, by keys alone: AWS documents filters
// of DynamoDB streams only on the dynamodb key of a record. The linter does not read it.
func TestFilter(t *testing.T) {
	t.Parallel()
	text := render(t, nil).prop("Mapping", "FilterCriteria", "Filters", "0", "Pattern").(string)
	var got any
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	want := map[string]any{
		"dynamodb": map[string]any{"Keys": map[string]any{"SK": map[string]any{"S": []any{map[string]any{"prefix": "B#"}}}}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("filter: got %v, want %v", got, want)
	}
}

// The trap is an alarm without an action.
func TestEveryAlarmActs(t *testing.T) {
	t.Parallel()
	const topic = "arn:aws:sns:eu-central-1:123456789012:alarms"
	alarms := func(o *stack.Options) (names []string) {
		r := render(t, o)
		for name, v := range r.Resources {
			if v["Type"] != "AWS::CloudWatch::Alarm" {
				continue
			}
			names = append(names, name)
			var want any
			if o != nil && o.AlarmTopic != "" {
				want = []any{topic}
			}
			r.is(want, name, "AlarmActions")
			r.is(want, name, "OKActions")
			r.is("notBreaching", name, "TreatMissingData")
		}
		slices.Sort(names)
		return names
	}
	all := "[DeadLettersAlarm DurationAlarm ErrorsAlarm IndexReadThrottleAlarm IndexWriteThrottleAlarm IteratorAgeAlarm ReadThrottleAlarm WriteThrottleAlarm]"
	for want, options := range map[string][]*stack.Options{
		all: {nil, {AlarmTopic: topic}},
		"[IndexReadThrottleAlarm IndexWriteThrottleAlarm ReadThrottleAlarm WriteThrottleAlarm]": {bare(), {NoAggregator: true, AlarmTopic: topic}},
		"[]": {{NoAlarms: true}},
	} {
		for _, o := range options {
			if got := fmt.Sprint(alarms(o)); got != want {
				t.Errorf("alarms with %+v: got %s, want %s", o, got, want)
			}
		}
	}
	r := render(t, nil)
	r.is("1", "DeadLettersAlarm", "Threshold")
	r.is("48000", "DurationAlarm", "Threshold")
	render(t, &stack.Options{LambdaTimeoutSeconds: 10, LambdaDurationThresholdPct: 50}).is("5000", "DurationAlarm", "Threshold")
	for alarm, metric := range map[string]string{
		"DeadLettersAlarm": "AWS/SQS ApproximateNumberOfMessagesVisible QueueName DeadLetters.QueueName", "ErrorsAlarm": "AWS/Lambda Errors FunctionName Aggregator",
		"DurationAlarm": "AWS/Lambda Duration FunctionName Aggregator", "IteratorAgeAlarm": "AWS/Lambda IteratorAge FunctionName Aggregator",
		"ReadThrottleAlarm": "AWS/DynamoDB ReadThrottleEvents TableName Table", "WriteThrottleAlarm": "AWS/DynamoDB WriteThrottleEvents TableName Table",
		// The metrics of TableName alone leave the indexes out.
		"IndexReadThrottleAlarm":  "AWS/DynamoDB ReadThrottleEvents TableName Table GlobalSecondaryIndexName GSI1",
		"IndexWriteThrottleAlarm": "AWS/DynamoDB WriteThrottleEvents TableName Table GlobalSecondaryIndexName GSI1",
	} {
		got := fmt.Sprint(r.prop(alarm, "Namespace"), " ", r.prop(alarm, "MetricName"))
		for _, d := range r.prop(alarm, "Dimensions").([]any) {
			dimension := d.(map[string]any)
			got += fmt.Sprint(" ", dimension["Name"], " ", dimension["Value"])
		}
		if got != metric {
			t.Errorf("%s: got %s, want %s", alarm, got, metric)
		}
	}
}

func TestBoundaryAndRoleName(t *testing.T) {
	t.Parallel()
	r := render(t, nil)
	r.is(nil, "AggregatorRole", "PermissionsBoundary")
	r.is(nil, "AggregatorRole", "RoleName")
	r = render(t, &stack.Options{PermissionBoundary: "team/boundary", RoleNameFormat: "app-{}-x"})
	r.is("arn:<Partition>:iam::<AccountId>:policy/team/boundary", "AggregatorRole", "PermissionsBoundary")
	r.is("app-"+fakeName+"-aggregator-x", "AggregatorRole", "RoleName")
	const arn = "arn:aws-cn:iam::aws:policy/PowerUserAccess"
	render(t, &stack.Options{PermissionBoundary: arn}).is(arn, "AggregatorRole", "PermissionsBoundary")
}

// No partition is fixed: there are others than aws.
func TestAnyPartition(t *testing.T) {
	t.Parallel()
	for i, line := range strings.Split(stack.Template(), "\n") {
		if strings.Contains(line, "arn:aws") && !strings.Contains(line, "AllowedPattern") {
			t.Errorf("line %d names a partition: %s", i+1, line)
		}
	}
}

// Outputs are exported under the stack's name, so that others can import them.
func TestOutputs(t *testing.T) {
	t.Parallel()
	r := render(t, nil)
	for name, o := range r.Outputs {
		if name == "AggregatorVersion" {
			continue // it changes, and what is imported must not
		}
		export, _ := o["Export"].(map[string]any)
		if want := fakeName + "-" + name; export["Name"] != want {
			t.Errorf("output %s: got export %v, want %s", name, export["Name"], want)
		}
	}
}

// The function may do what it does, where it does it, and nothing else.
func TestRoleHasLeastPrivilege(t *testing.T) {
	t.Parallel()
	got := grants(t, render(t, nil), "AggregatorRole")
	want := []string{
		"dynamodb:DescribeStream Table.StreamArn", "dynamodb:GetRecords Table.StreamArn", "dynamodb:GetShardIterator Table.StreamArn",
		"dynamodb:ListStreams Table.Arn/stream/*", "dynamodb:UpdateItem Table.Arn",
		"logs:CreateLogStream LogGroup.Arn", "logs:PutLogEvents LogGroup.Arn", "sqs:SendMessage DeadLetters.Arn",
	}
	if !slices.Equal(got, want) {
		t.Errorf("role: got %q, want %q", got, want)
	}
}

// grants are the actions and resources of a policy or role, "action resource", in
// order.
func grants(t *testing.T, r *rendered, resource string) []string {
	t.Helper()
	var documents []any
	if p := r.prop(resource, "PolicyDocument"); p != nil {
		documents = append(documents, p)
	}
	if list, ok := r.prop(resource, "Policies").([]any); ok {
		for _, p := range list {
			documents = append(documents, p.(map[string]any)["PolicyDocument"])
		}
	}
	texts := func(v any) []string {
		if list, ok := v.([]any); ok {
			var all []string
			for _, e := range list {
				all = append(all, e.(string))
			}
			return all
		}
		return []string{v.(string)}
	}
	var all []string
	for _, d := range documents {
		for _, s := range d.(map[string]any)["Statement"].([]any) {
			statement := s.(map[string]any)
			if statement["Effect"] != "Allow" {
				t.Fatalf("%s: got the effect %v, want Allow", resource, statement["Effect"])
			}
			for _, action := range texts(statement["Action"]) {
				for _, where := range texts(statement["Resource"]) {
					all = append(all, action+" "+where)
				}
			}
		}
	}
	slices.Sort(all)
	return all
}
