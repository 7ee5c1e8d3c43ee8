package template_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"parley/infra/lambda/config"
)

// alarmed are the metrics that must have an alarm.
var alarmed = []string{
	"AWS/ApiGateway 5xx", "AWS/DynamoDB ReadThrottleEvents", "AWS/DynamoDB ReplicationLatency", "AWS/DynamoDB WriteThrottleEvents",
	"AWS/Events PutEventsApproximateFailedCount", "AWS/Events PutEventsApproximateThrottledCount", "AWS/Events PutEventsFailedEntriesCount", "AWS/Lambda Errors", "AWS/Lambda DestinationDeliveryFailures", "AWS/Lambda DroppedEventCount",
	"AWS/Lambda IteratorAge", "AWS/Lambda OnFailureDestinationDeliveredEventCount", "AWS/Lambda Throttles",
	"AWS/SQS ApproximateAgeOfOldestMessage", "AWS/SQS ApproximateNumberOfMessagesVisible",
	"Parley Parked", "Parley Unfinished", "Parley Unsent",
}

// TestAlarms: each alarm has its settings and the topic, and the metrics of the binary that it watches
// exist. cfn-lint accepts an alarm without EvaluationPeriods.
func TestAlarms(t *testing.T) {
	b, c := read(t), check{t}
	watched, watchedQueues := map[string]bool{}, map[string]bool{}
	for id, r := range resources(b.region, "AWS::CloudWatch::Alarm") {
		p := r["Properties"].(tree)
		for _, needed := range []string{"EvaluationPeriods", "Threshold", "ComparisonOperator", "TreatMissingData", "AlarmDescription", "AlarmName"} {
			c.unless(p[needed] != nil, "%s has no %s", id, needed)
		}
		for _, to := range []string{"AlarmActions", "OKActions"} {
			c.equal(id+": "+to, p[to], tree{"Fn::If": []any{"HasAlarmTopic", []any{tree{"Ref": "AlarmTopicArn"}}, tree{"Ref": "AWS::NoValue"}}})
		}
		metrics := []any{p}
		for _, m := range items(p, "Metrics") {
			if stat := at(m, "MetricStat"); stat != nil {
				metrics = append(metrics, at(stat, "Metric"))
			}
		}
		for _, m := range metrics {
			c.metric(id, m)
			if queue := at(m, "Dimensions", "0", "Value"); text(m, "Namespace") == "AWS/SQS" {
				watchedQueues[ref(queue)] = true
			}
			watched[text(m, "Namespace")+" "+text(m, "MetricName")] = true
		}
	}
	for _, queue := range jobQueues {
		c.unless(watchedQueues[queue] && watchedQueues[queue+"Dead"], "no alarm watches %s, or its dead letters", queue)
	}
	for _, m := range alarmed {
		c.unless(watched[m], "there is no alarm for %s", m)
	}
	c.equal("the mapping's metrics", at(properties(b.region, "Mapping"), "MetricsConfig", "Metrics"), []any{"EventCount"})
}

// metric checks that the binary writes a metric.
func (c check) metric(id string, m any) {
	if text(m, "Namespace") != config.Namespace {
		return
	}
	var names []string
	by := ""
	for _, d := range items(m, "Dimensions") {
		names = append(names, text(d, "Name"))
		if text(d, "Name") == "Function" {
			by = text(d, "Value")
		}
	}
	c.equal(id+": the dimensions", names, config.Dimensions)
	c.unless(writes(by, text(m, "MetricName")), "%s: the function %q writes no %s", id, by, text(m, "MetricName"))
}

// writes reports whether a function writes a metric.
func writes(function, metric string) bool {
	return slices.ContainsFunc(config.Metrics, func(m config.Metric) bool { return m.Name == metric && slices.Contains(m.Functions, function) })
}

// TestPatterns: every leaf of an event pattern is a list. cfn-lint accepts a text.
func TestPatterns(t *testing.T) {
	b, c := read(t), check{t}
	patterns := 0
	walk(b.region["Resources"], nil, func(path []string, v any) {
		if path := strings.Join(path, "/"); strings.HasSuffix(path, "/EventPattern") {
			patterns++
			c.lists(path, v)
		}
	})
	c.equal("the number of patterns", patterns, 2)
}

func (c check) lists(path string, v any) {
	switch v := v.(type) {
	case tree:
		for key, inner := range v {
			c.lists(path+"/"+key, inner)
		}
	case []any:
		c.unless(len(v) > 0, "%s is an empty list", path)
	default:
		c.Errorf("%s is not a list", path)
	}
}

// TestQueues: only a rule may send to the queues of subscribers, and what cannot be delivered is kept.
func TestQueues(t *testing.T) {
	b, c := read(t), check{t}
	for id, r := range resources(b.region, "AWS::SQS::QueuePolicy") {
		for _, s := range items(r, "Properties", "PolicyDocument", "Statement") {
			source := ref(at(s, "Condition", "ArnEquals", "aws:SourceArn"))
			c.equal(id+": the source", text(b.region, "Resources", source, "Type"), "AWS::Events::Rule")
			c.equal(id+": Principal", at(s, "Principal"), tree{"Service": "events.amazonaws.com"})
		}
	}
	c.equal("the dead letters of the example's rule", ref(at(properties(b.region, "ExampleRule"), "Targets", "0", "DeadLetterConfig", "Arn")), "ExampleDead")
	c.equal("the dead letters of the example's queue", ref(at(properties(b.region, "ExampleMessages"), "RedrivePolicy", "deadLetterTargetArn")), "ExampleDead")
	for id := range resources(b.region, "AWS::SQS::Queue") {
		c.equal(id+": SqsManagedSseEnabled", properties(b.region, id)["SqsManagedSseEnabled"], true)
	}
}

var placeholder = regexp.MustCompile(`\$\{[A-Za-z:.]+\}`)

// TestDashboard: it is JSON, and the binary writes the metrics that it shows.
func TestDashboard(t *testing.T) {
	b, c := read(t), check{t}
	for id := range resources(b.region, "AWS::CloudWatch::Dashboard") {
		body := text(properties(b.region, id), "DashboardBody", "Fn::Sub")
		var d struct {
			Widgets []struct{ Properties struct{ Metrics [][]any } }
		}
		err := json.Unmarshal([]byte(placeholder.ReplaceAllString(body, "x")), &d)
		c.unless(err == nil && len(d.Widgets) > 3, "%s is not JSON: %v", id, err)
		shown := 0
		for _, w := range d.Widgets {
			var last []any
			for _, line := range w.Properties.Metrics {
				last = spelled(line, last)
				if last[0] == config.Namespace {
					shown++
					metric, _ := last[1].(string)
					function, _ := last[5].(string)
					c.unless(writes(function, metric), "%s: the function %q writes no %s", id, function, metric)
				}
			}
		}
		c.unless(shown > 5, "%s shows %d metrics of the binary", id, shown)
	}
}

// spelled returns a metric with its dots replaced by what the metric before it has.
func spelled(line, before []any) []any {
	out := slices.Clone(line)
	if len(out) > 0 && out[0] == "..." {
		keep := before[:len(before)-(len(out)-1)]
		if _, options := out[len(out)-1].(map[string]any); options {
			keep = before[:len(before)-(len(out)-2)]
			if _, had := before[len(before)-1].(map[string]any); had {
				keep = before[:len(before)-1-(len(out)-2)]
			}
		}
		out = append(slices.Clone(keep), out[1:]...)
	}
	for i := range out {
		if out[i] == "." {
			out[i] = before[i]
		}
	}
	return out
}

// TestAlarmsCost: COSTS.md has the number of metrics that alarms watch.
func TestAlarmsCost(t *testing.T) {
	metrics, others := 0, 0
	for id, r := range resources(read(t).region, "AWS::CloudWatch::Alarm") {
		n := max(1, len(items(r, "Properties", "Metrics"))-1) // of a sum, all but the sum
		if strings.HasPrefix(id, "Replication") {
			others += n
		} else {
			metrics += n
		}
	}
	costs, err := os.ReadFile("COSTS.md")
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%d metrics, and one for each other region, at 0.10: %.2f", metrics, float64(metrics+others)/10)
	if others != 1 || !strings.Contains(string(costs), want) {
		t.Errorf("COSTS.md does not say that alarms watch %s", want)
	}
}

// TestLogs: every log group has a retention time.
func TestLogs(t *testing.T) {
	b, c := read(t), check{t}
	for id := range resources(b.region, "AWS::Logs::LogGroup") {
		c.unless(properties(b.region, id)["RetentionInDays"] != nil, "%s is kept forever", id)
	}
}

// TestNames: names have the stage, and those that an account has once for all regions have the region.
func TestNames(t *testing.T) {
	b, c := read(t), check{t}
	for _, tt := range []struct{ kind, property, prefix string }{
		{"AWS::IAM::Role", "RoleName", "parley-${Stage}-${AWS::Region}-"},
		{"AWS::CloudWatch::Alarm", "AlarmName", "parley-${Stage}-"},
		{"AWS::CloudWatch::Dashboard", "DashboardName", "parley-${Stage}-${AWS::Region}"},
	} {
		seen := map[string]bool{}
		for id := range resources(b.region, tt.kind) {
			name := text(properties(b.region, id), tt.property, "Fn::Sub")
			c.unless(strings.HasPrefix(name, tt.prefix), "%s is called %q, want %s…", id, name, tt.prefix)
			c.unless(!seen[name], "two are called %s", name)
			seen[name] = true
		}
	}
}

// TestParameters: each is used and described. cfn-lint accepts unused ones.
func TestParameters(t *testing.T) {
	b, c := read(t), check{t}
	for file, template := range map[string]tree{"global.yaml": b.global, "region.yaml": b.region} {
		used := map[string]bool{}
		for _, part := range []string{"Resources", "Conditions", "Outputs"} {
			walk(template[part], nil, func(_ []string, v any) {
				used[ref(v)] = true
				for piece := range strings.SplitSeq(text(v, "Fn::Sub"), "${") {
					name, _, _ := strings.Cut(piece, "}")
					used[name] = true
				}
			})
		}
		for name, p := range template["Parameters"].(tree) {
			c.unless(used[name], "%s: nothing uses the parameter %s", file, name)
			c.unless(text(p, "Description") != "", "%s: the parameter %s is not described", file, name)
		}
	}
}
