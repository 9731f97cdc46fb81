//go:build unix

package main_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael/internal/awsconf"
)

const fakeID = "arn:aws:cloudformation:us-east-1:123456789012:stack/ZAEL-demo/1"

// A formation is CloudFormation as far as these tests need it: each action's answer.
type formation map[string]string

const (
	describedAs = "<DescribeStacksResponse><DescribeStacksResult><Stacks><member><StackName>ZAEL-demo</StackName><StackId>" + fakeID +
		"</StackId><CreationTime>2026-01-02T03:04:05Z</CreationTime><StackStatus>%s</StackStatus>%s</member></Stacks></DescribeStacksResult></DescribeStacksResponse>"
	eventOf = "<DescribeStackEventsResponse><DescribeStackEventsResult><StackEvents><member><EventId>1</EventId><StackId>" + fakeID +
		"</StackId><LogicalResourceId>ZAEL-demo</LogicalResourceId><ResourceType>AWS::CloudFormation::Stack</ResourceType><ResourceStatus>%s</ResourceStatus>" +
		"<Timestamp>2026-01-02T03:04:05Z</Timestamp></member></StackEvents></DescribeStackEventsResult></DescribeStackEventsResponse>"
)

// serve answers; "silent" is not answered at all, and what there is nothing for fails.
func (f formation) serve(t *testing.T, called func(action string)) []string {
	t.Helper()
	over := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		action := r.PostFormValue("Action")
		if target := r.Header.Get("X-Amz-Target"); target != "" {
			_, action, _ = strings.Cut(target, ".")
		}
		if called != nil {
			called(action)
		}
		switch answer := f[action]; {
		case answer == "silent":
			select {
			case <-over:
			case <-r.Context().Done():
			}
		case strings.HasPrefix(answer, "!"):
			w.WriteHeader(http.StatusBadRequest)
			form := "<ErrorResponse><Error><Code>%s</Code><Message>because</Message></Error></ErrorResponse>"
			if r.Header.Get("X-Amz-Target") != "" {
				form = `{"__type": "com.amazonaws.dynamodb.v20120810#%s", "message": "because"}`
			}
			if _, err := fmt.Fprintf(w, form, answer[1:]); err != nil {
				t.Error(err)
			}
		case answer == "":
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			_, _ = io.WriteString(w, answer)
		}
	}))
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(over) })
	return []string{"--endpoint-url", server.URL}
}

// TestStackExitCodes: who waits for AWS tells its absence from its refusal.
func TestStackExitCodes(t *testing.T) {
	t.Parallel()
	s := shop{t: t, store: "memory:"}
	away := formation{}.serve(t, nil)
	silent := formation{"DescribeStacks": "silent", "ListStacks": "silent", "GetItem": "silent"}.serve(t, nil)
	throttled := formation{"DescribeStacks": "!Throttling", "ListStacks": "!Throttling"}.serve(t, nil)
	denied := formation{"DescribeStacks": "!AccessDenied", "ListStacks": "!AccessDenied"}.serve(t, nil)
	refused := []string{"--endpoint-url", "http://127.0.0.1:1"}
	creating := formation{
		"DescribeStacks": fmt.Sprintf(describedAs, "CREATE_IN_PROGRESS", ""), "DescribeStackEvents": fmt.Sprintf(eventOf, "CREATE_IN_PROGRESS"),
	}.serve(t, nil)
	creatingNot := formation{"DescribeStacks": "<DescribeStacksResponse><DescribeStacksResult/></DescribeStacksResponse>", "CreateStack": "!Throttling", "GetItem": "!ResourceNotFoundException"}.serve(t, nil)
	for name, c := range map[string]struct {
		flags    []string
		code     int
		want     string
		commands []string
	}{
		"away":         {away, 4, "AWS is unavailable", []string{"list", "status -n demo", "check -n demo", "upgrade -n demo", "delete -n demo --yes", "deploy -n demo --no-aggregator", "version -n demo"}},
		"silent":       {append(silent, "--timeout", "300ms"), 4, "no answer in time", []string{"list", "status -n demo", "check -n demo", "upgrade -n demo", "delete -n demo --yes", "deploy -n demo --no-aggregator", "version -n demo"}},
		"throttled":    {throttled, 4, "Throttling: because", []string{"list", "status -n demo", "upgrade -n demo", "delete -n demo --yes", "deploy -n demo --no-aggregator"}},
		"denied":       {denied, 1, "AccessDenied: because", []string{"list", "status -n demo", "upgrade -n demo", "delete -n demo --yes", "deploy -n demo --no-aggregator"}},
		"refused":      {refused, 4, "connection refused", []string{"list", "check -n demo", "deploy -n demo --no-aggregator"}},
		"not done":     {append(creating, "--timeout", "3s"), 1, "not done within --timeout 3s: waiting for ZAEL-demo, which is CREATE_IN_PROGRESS", []string{"deploy -n demo --no-aggregator"}},
		"not creating": {creatingNot, 4, "could not create ZAEL-demo", []string{"deploy -n demo --no-aggregator"}},
	} {
		for _, command := range c.commands {
			t.Run(name+"/"+command, func(t *testing.T) {
				t.Parallel()
				s := shop{t: t, store: s.store}
				if _, errs := s.run(c.code, append(strings.Fields(command), c.flags...)...); !strings.Contains(errs, c.want) || strings.Count(errs, "zael: ") != 1 {
					t.Errorf("got %q, want once %q", errs, c.want)
				}
			})
		}
	}
}

// TestStackSignals: one signal ends the wait and says what goes on, and two end it at
// once, also where AWS is silent.
func TestStackSignals(t *testing.T) {
	t.Parallel()
	inProgress := formation{
		"DescribeStacks": fmt.Sprintf(describedAs, "CREATE_IN_PROGRESS", ""), "DescribeStackEvents": fmt.Sprintf(eventOf, "CREATE_IN_PROGRESS"),
	}
	const goesOn = "zael: interrupted\nCloudFormation goes on with what it has begun. To follow it: zael status --name demo --region eu-west-1 --endpoint-url http://"
	for name, c := range map[string]struct {
		formation formation
		until     string // the action after which the signals come
		signals   []syscall.Signal
		want      string // the last that is said; "" if it may be killed before it speaks
	}{
		"INT":         {inProgress, "DescribeStackEvents", []syscall.Signal{syscall.SIGINT}, goesOn},
		"TERM":        {inProgress, "DescribeStackEvents", []syscall.Signal{syscall.SIGTERM}, goesOn},
		"twice":       {inProgress, "DescribeStackEvents", []syscall.Signal{syscall.SIGINT, syscall.SIGINT}, ""},
		"both":        {inProgress, "DescribeStackEvents", []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGTERM}, ""},
		"in a call":   {formation{"DescribeStacks": "silent"}, "DescribeStacks", []syscall.Signal{syscall.SIGINT}, "zael: interrupted\n"},
		"twice in it": {formation{"DescribeStacks": "silent"}, "DescribeStacks", []syscall.Signal{syscall.SIGINT, syscall.SIGINT}, ""},
	} {
		if testing.Short() && (name == "TERM" || name == "twice" || name == "twice in it") {
			continue // another goes the same way
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reached := make(chan struct{}, 1000)
			flags := c.formation.serve(t, func(action string) {
				if action == c.until {
					reached <- struct{}{}
				}
			})
			s := shop{t: t, store: "memory:"}
			cmd := s.command(append([]string{"deploy", "-n", "demo", "--no-aggregator", "--region", "eu-west-1"}, flags...)...)
			errs, err := cmd.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			<-reached
			for _, signal := range c.signals {
				_ = cmd.Process.Signal(signal) // it may have ended
			}
			said, err := io.ReadAll(bufio.NewReader(errs))
			if err != nil {
				t.Error(err)
			}
			_ = cmd.Wait()
			status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
			first := slices.Contains(c.signals, syscall.Signal(cmd.ProcessState.ExitCode()-128)) // whichever it was
			if !first && (len(c.signals) == 1 || !status.Signaled()) {
				t.Errorf("got %v, want exit code 128 and the signal, of %v", cmd.ProcessState, c.signals)
			}
			if !strings.Contains(string(said), c.want) || strings.Count(string(said), "interrupted") > 1 {
				t.Errorf("got %q, want it to contain %q, once", said, c.want)
			}
		})
	}
}

// TestStackIsMissing: what is not there is told with what to do.
func TestStackIsMissing(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	for _, command := range []string{"status", "check", "upgrade", "version"} {
		c.says(1, " ZAEL-none in us-west-2\nIf it has another name, zael list --region us-west-2 --endpoint-url ", command, "-n", "none", "--region", "us-west-2")
		c.says(1, "\nTo create it: zael deploy --name none --region us-west-2 --endpoint-url ", command, "-n", "ZAEL-none", "--region", "us-west-2")
	}
	c.says(0, "ZAEL-none: there is none in us-west-2; zael list --region us-west-2 --endpoint-url ", "delete", "-n", "none", "--region", "us-west-2")
	for _, region := range []string{"", "nowhere", "eu central"} {
		for _, command := range []string{"list", "deploy", "status -n x", "check -n x", "upgrade -n x", "delete -n x", "version -n x"} {
			cmd := c.command(strings.Fields(command)...)
			cmd.Env = append(cmd.Env, "AWS_REGION="+region, "AWS_DEFAULT_REGION=", "AWS_ENDPOINT_URL=", "AWS_CONFIG_FILE="+os.DevNull, "AWS_EC2_METADATA_DISABLED=true")
			out, err := cmd.CombinedOutput()
			if code := cmd.ProcessState.ExitCode(); code != 2 || !strings.HasPrefix(string(out), "zael: --region ") || !strings.Contains(string(out), "set AWS_REGION") {
				t.Errorf("zael %s in region %q: got %d and %q (%v), want what to set", command, region, code, out, err)
			}
		}
	}
}

// TestStackStoreIsUsable: what deploy prints is a store as it stands, in a flag and in
// the environment, and the command to follow it is one.
func TestStackStoreIsUsable(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	deploy := []string{"deploy", "-n", "usable", "--no-aggregator", "--no-alarms"}
	begun := c.says(0, "ZAEL-usable: begun", append(deploy, "--no-wait")...)
	_, follow, _ := strings.Cut(begun, "To follow it: zael ")
	follow, _, _ = strings.Cut(follow, "\n")
	if out, err := c.command(strings.Fields(follow)...).CombinedOutput(); err != nil || !strings.Contains(string(out), "ZAEL-usable") {
		t.Errorf("zael %s: got %s and %v", follow, out, err)
	}
	_, atBegin, _ := strings.Cut(begun, "store '")
	_, store, _ := strings.Cut(c.says(0, "", deploy...), "store '")
	store, _, ok := strings.Cut(store, "'\n")
	if !ok || !strings.HasPrefix(atBegin, store) {
		t.Fatalf("got the store %q, and %q at the begin", store, atBegin)
	}
	shop{t: t, store: "memory:"}.run(0, append([]string{"available", "--store", store}, under("")[1:7]...)...)
	shop{t: t, store: store}.run(0, under("true")...) // by the environment
	c.says(0, "", "delete", "-n", "usable", "--yes")
}

// TestStackOfAnotherProgram: it is told, and stays.
func TestStackOfAnotherProgram(t *testing.T) {
	t.Parallel()
	const template = "<GetTemplateResponse><GetTemplateResult><TemplateBody>Description: theirs</TemplateBody></GetTemplateResult></GetTemplateResponse>"
	s := shop{t: t, store: "memory:"}
	flags := formation{
		"DescribeStacks": fmt.Sprintf(describedAs, "CREATE_COMPLETE", ""), "GetTemplate": template,
		"ListStackResources": "<ListStackResourcesResponse><ListStackResourcesResult/></ListStackResourcesResponse>",
	}.serve(t, nil)
	for command, want := range map[string]string{
		"upgrade":                "could not update ZAEL-demo: another program made it",
		"deploy --no-aggregator": "could not update ZAEL-demo: another program made it",
		"delete":                 "aws cloudformation delete-stack --region us-east-1 --stack-name ZAEL-demo", // without a question
		"delete --yes":           "could not delete ZAEL-demo: another program made it",
	} {
		if _, errs := s.run(1, append(append(strings.Fields(command), "-n", "demo"), flags...)...); !strings.Contains(errs, want) {
			t.Errorf("zael %s: got %q, want %q", command, errs, want)
		}
	}
	if out, _ := s.run(0, append([]string{"status", "-n", "demo"}, flags...)...); !strings.Contains(out, "made by  another program") || strings.Contains(out, "versions") {
		t.Errorf("status: got %s, want that another program made it", out)
	}
}

// TestStackInReview: a name that only a change set has reserved.
func TestStackInReview(t *testing.T) {
	t.Parallel()
	s := shop{t: t, store: "memory:"}
	flags := formation{
		"DescribeStacks": fmt.Sprintf(describedAs, "REVIEW_IN_PROGRESS", ""), "DeleteStack": "<a/>",
		"ListStackResources":  "<ListStackResourcesResponse><ListStackResourcesResult/></ListStackResourcesResponse>",
		"DescribeStackEvents": fmt.Sprintf(eventOf, "REVIEW_IN_PROGRESS"),
	}.serve(t, nil)
	if out, _ := s.run(0, append([]string{"status", "-n", "demo"}, flags...)...); !strings.Contains(out, "REVIEW_IN_PROGRESS") {
		t.Errorf("status: got %s", out)
	}
	if _, errs := s.run(1, append([]string{"upgrade", "-n", "demo"}, flags...)...); !strings.Contains(errs, "only a change set in review; to create it: zael deploy --name demo") {
		t.Errorf("upgrade: got %s, want what makes it", errs)
	}
	if out, _ := s.run(0, append([]string{"delete", "-n", "demo", "--yes", "--no-wait"}, flags...)...); !strings.Contains(out, "begun") {
		t.Errorf("delete: got %s, want that it has begun", out)
	}
}

// TestStackWithoutItsTable: the rest is told.
func TestStackWithoutItsTable(t *testing.T) {
	t.Parallel()
	c := newCloud(t)
	config, err := awsconf.Load(t.Context(), "", c.flags[1])
	if err != nil {
		t.Fatal(err)
	}
	client := dynamodb.NewFromConfig(config, func(o *dynamodb.Options) { o.DisableValidateResponseChecksum = true })
	table := aws.String("ZAEL-lost")
	c.says(0, "", "deploy", "-n", "lost", "--no-aggregator", "--no-alarms")
	if _, err := client.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: table, Key: map[string]types.AttributeValue{
		"PK": &types.AttributeValueMemberS{Value: "SYSTEM"}, "SK": &types.AttributeValueMemberS{Value: "#VERSION"},
	}}); err != nil {
		t.Fatal(err)
	}
	if out := c.says(0, "versions   none noted", "status", "-n", "lost"); !strings.Contains(out, "ReadPolicyArn") {
		t.Errorf("status without versions: got %s, want the rest", out)
	}
	c.says(1, "has no version record\nTo bring it up to date, when the stack is complete: zael upgrade --name lost", "check", "-n", "lost")
	if _, err := client.DeleteTable(t.Context(), &dynamodb.DeleteTableInput{TableName: table}); err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{"--json=false", "--json"} {
		if out := c.says(1, "has lost its table", "status", "-n", "lost", form); !strings.Contains(out, "ReadPolicyArn") {
			t.Errorf("status %s without a table: got %s, want the rest", form, out)
		}
	}
	c.says(1, "has lost its table", "deploy", "-n", "lost", "--no-aggregator", "--no-alarms")
	c.says(0, "deleted", "delete", "-n", "lost", "--yes")
}
