//go:build unix

package main_test

import (
	"runtime"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/zeroae/zael/internal/awsconf"
	"github.com/zeroae/zael/internal/schema"
)

// TestWrongVersionRecord: a record that is not what is deployed is told by every command
// that relies on it, and no change is counted by it.
func TestWrongVersionRecord(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("the function is a program for Linux")
	}
	c := newCloud(t)
	code, architecture := codeZip(t)
	c.says(0, "created", "deploy", "-n", "record", "--code", code, "--architecture", architecture)
	config, err := awsconf.Load(t.Context(), "", c.flags[1])
	if err != nil {
		t.Fatal(err)
	}
	client := dynamodb.NewFromConfig(config, func(o *dynamodb.Options) { o.DisableValidateResponseChecksum = true })
	note := func(update string, values map[string]types.AttributeValue) {
		t.Helper()
		if _, err := client.UpdateItem(t.Context(), &dynamodb.UpdateItemInput{
			TableName: aws.String("ZAEL-record"), Key: schema.SystemKey(schema.VersionKey), UpdateExpression: &update, ExpressionAttributeValues: values,
		}); err != nil {
			t.Fatal(err)
		}
	}
	onTable := shop{t: t, store: "dynamodb://record?region=us-east-1&endpoint=" + c.flags[1]}
	says := func(code int, want string, args ...string) {
		t.Helper()
		if out, errs := onTable.run(code, args...); !strings.Contains(out+errs, want) {
			t.Errorf("zael %s: got %q and %q, want %q", strings.Join(args, " "), out, errs, want)
		}
	}
	queue := []string{"redrive", "--queue", c.flags[1] + "/123456789012/none"}

	// As tools of AWS leave it that have changed the windows.
	note("SET windows = :w", map[string]types.AttributeValue{":w": schema.Text("hourly")})
	const differs = "by the version record of ZAEL-record its function counts by hourly, for 90 days, by the stack by hourly,daily, for 90 days"
	c.says(1, "the table's version record is not what is deployed: windows hourly instead of hourly,daily\nTo bring it up to date, when the stack is complete: zael upgrade", "check", "-n", "record")
	c.says(0, "record     windows: deployed is hourly,daily, the table's version record says hourly", "status", "-n", "record")
	says(1, differs+": bring the record up to date with zael upgrade", queue...)
	says(0, differs, "aggregate", "--once")
	says(0, "windows=hourly,daily retention_days=90", "aggregate", "--once")
	c.says(0, "up to date", "upgrade", "-n", "record", "--code", code)
	c.says(0, "compatible\n", "check", "-n", "record")

	// As an update leaves it that was interrupted.
	note("REMOVE lambda_version, windows, retention_days", nil)
	c.says(1, "the table's version record is not what is deployed: aggregator unknown instead of ", "check", "-n", "record")
	says(2, "--windows hourly: the function of ZAEL-record counts by hourly,daily", append(queue, "--windows", "hourly")...)
	says(0, "windows=hourly,daily retention_days=90", "aggregate", "--once")
	c.says(0, "up to date", "deploy", "-n", "record", "--code", code, "--architecture", architecture)
	c.says(0, "compatible\n", "check", "-n", "record")
	c.says(0, "deleted", "delete", "-n", "record", "--yes")
}
