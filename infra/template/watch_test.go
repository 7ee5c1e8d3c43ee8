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

// alarmed are the metrics that must wake someone.
var alarmed = []string{
	"AWS/ApiGateway 5xx", "AWS/DynamoDB ReadThrottleEvents", "AWS/DynamoDB ReplicationLatency", "AWS/DynamoDB WriteThrottleEvents",
	"AWS/Events PutEventsApproximateFailedCount", "AWS/Events PutEventsApproximateThrottledCount", "AWS/Events PutEventsFailedEntriesCount", "AWS/Lambda Errors", "AWS/Lambda DestinationDeliveryFailures", "AWS/Lambda DroppedEventCount",
	"AWS/Lambda IteratorAge", "AWS/Lambda OnFailureDestinationDeliveredEventCount", "AWS/Lambda Throttles",
	"AWS/SQS ApproximateAgeOfOldestMessage", "AWS/SQS ApproximateNumberOfMessagesVisible",
	"Parley Parked", "Parley Unfinished", "Parley Unsent",
}

// checkAlarms: each says when it speaks and what silence means, and tells the topic; and what it
// looks at is there.
func checkAlarms(b both) []string {
	var c complaints
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
	for _, queue := range doers {
		c.unless(watchedQueues[queue] && watchedQueues[queue+"Dead"], "nobody watches %s, or its dead letters", queue)
	}
	for _, m := range alarmed {
		c.unless(watched[m], "there is no alarm for %s", m)
	}
	c.equal("the mapping's metrics", at(properties(b.region, "Mapping"), "MetricsConfig", "Metrics"), []any{"EventCount"})
	return c
}

// metric complains of a metric of the binary that the binary does not write.
func (c *complaints) metric(id string, m any) {
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

// checkPatterns: what an event must match is a list, everywhere in a pattern.
func checkPatterns(b both) []string {
	var c complaints
	patterns := 0
	walk(b.region["Resources"], nil, func(path []string, v any) {
		if path := strings.Join(path, "/"); strings.HasSuffix(path, "/EventPattern") {
			patterns++
			c.lists(path, v)
		}
	})
	c.equal("the number of patterns", patterns, 2)
	return c
}

func (c *complaints) lists(path string, v any) {
	switch v := v.(type) {
	case tree:
		for key, inner := range v {
			c.lists(path+"/"+key, inner)
		}
	case []any:
		c.unless(len(v) > 0, "%s is an empty list", path)
	default:
		*c = append(*c, path+" is not a list")
	}
}

// checkQueues: only the rule may put something into the queues, and what cannot be put or taken
// is kept.
func checkQueues(b both) []string {
	var c complaints
	for id, r := range resources(b.region, "AWS::SQS::QueuePolicy") {
		for _, s := range items(r, "Properties", "PolicyDocument", "Statement") {
			source := ref(at(s, "Condition", "ArnEquals", "aws:SourceArn"))
			c.equal(id+": the source", text(b.region, "Resources", source, "Type"), "AWS::Events::Rule")
			c.equal(id+": Action", at(s, "Action"), "sqs:SendMessage")
			c.equal(id+": Principal", at(s, "Principal"), tree{"Service": "events.amazonaws.com"})
		}
	}
	for id, r := range resources(b.region, "AWS::Events::Rule") {
		for _, target := range items(r, "Properties", "Targets") {
			if text(b.region, "Resources", ref(at(target, "Arn")), "Type") != "AWS::SQS::Queue" {
				continue
			}
			c.equal(id+": its dead letters go to", ref(at(target, "DeadLetterConfig", "Arn")), "ExampleDead")
			c.equal(id+": EventBusName", ref(at(r, "Properties", "EventBusName")), "Bus")
		}
	}
	c.equal("the queue's dead letters go to", ref(at(properties(b.region, "ExampleMessages"), "RedrivePolicy", "deadLetterTargetArn")), "ExampleDead")
	for id := range resources(b.region, "AWS::SQS::Queue") {
		c.equal(id+": SqsManagedSseEnabled", properties(b.region, id)["SqsManagedSseEnabled"], true)
	}
	c.equal("the number of queue policies", len(resources(b.region, "AWS::SQS::QueuePolicy")), 1)
	return c
}

var placeholder = regexp.MustCompile(`\$\{[A-Za-z:.]+\}`)

// checkDashboard: it is JSON, and shows metrics of the binary that there are.
func checkDashboard(b both) []string {
	var c complaints
	for id := range resources(b.region, "AWS::CloudWatch::Dashboard") {
		body := text(properties(b.region, id), "DashboardBody", "Fn::Sub")
		var d struct {
			Widgets []struct{ Properties struct{ Metrics [][]any } }
		}
		err := json.Unmarshal([]byte(placeholder.ReplaceAllString(body, "x")), &d)
		c.unless(err == nil && len(d.Widgets) > 3, "%s is no JSON: %v", id, err)
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
	return c
}

// spelled writes out a metric whose dots stand for what the one before it has.
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

// What README.md says the alarms cost is what there are.
func TestAlarmsCost(t *testing.T) {
	metrics, others := 0, 0
	for id, r := range resources(read(t).region, "AWS::CloudWatch::Alarm") {
		n := max(1, len(items(r, "Properties", "Metrics"))-1) // of a sum all but the sum
		if strings.HasPrefix(id, "Replication") {
			others += n
		} else {
			metrics += n
		}
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%d metrics, and one for each other region, at 0.10: %.2f", metrics, float64(metrics+others)/10)
	if others != 1 || !strings.Contains(string(readme), want) {
		t.Errorf("README.md does not say that the alarms look at %s", want)
	}
}
