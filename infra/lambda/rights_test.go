package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"parley/events/dynamolocal/dynamotest"
	"parley/infra/lambda/config"
)

// DynamoDB Local allows everything. So the tests record the calls of each function, and compare them with
// what its role allows on AWS.

// access is an access to a partition of a table, as IAM checks it.
type access struct{ operation, table, key string }

// ledger records the accesses of functions to tables.
type ledger struct {
	mu    sync.Mutex
	made  map[string]map[access]bool // by function
	wrong []string                   // calls that are not understood
}

func newLedger() *ledger { return &ledger{made: map[string]map[access]bool{}} }

func (l *ledger) note(function string, call dynamotest.Call) {
	all, err := accesses(call)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.wrong = append(l.wrong, fmt.Sprintf("%s: %v", function, err))
	}
	if l.made[function] == nil {
		l.made[function] = map[access]bool{}
	}
	for _, a := range all {
		l.made[function][a] = true
	}
}

// complaints returns the accesses that functions had no right to.
func (l *ledger) complaints() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := slices.Clone(l.wrong)
	for function, made := range l.made {
		for a := range made {
			if !slices.ContainsFunc(config.Rights[function], func(r config.Right) bool { return r.Allows(a.operation, a.table, a.key, inRegion) }) {
				all = append(all, fmt.Sprintf("the role of %s does not allow %s on %s, of %q", function, a.operation, a.table, a.key))
			}
		}
	}
	return all
}

// keyNames are the partition keys of tables, and their names in config.
var keyNames = map[string]struct{ table, key string }{
	eventsTable:      {config.Events, "stream"},
	viewsTable:       {config.Views, "partition"},
	connectionsTable: {config.Connections, "partition"},
	keysTable:        {config.Keys, "user"},
}

// part has the needed fields of any call, or of a part of one.
type part struct {
	TableName                 string
	Item, Key                 image
	KeyConditionExpression    string
	ExpressionAttributeValues image
}

type image map[string]struct{ S string }

// accesses returns the accesses of a call. Each part of a batch or a transaction is one access; IAM checks
// the parts of a transaction by their own operations.
func accesses(call dynamotest.Call) (all []access, err error) {
	add := func(operation string, p part) {
		name, known := keyNames[p.TableName]
		key := cmp.Or(p.Item[name.key].S, p.Key[name.key].S, queried(p))
		if err == nil && (!known || key == "" && operation != "Scan") {
			err = fmt.Errorf("%s of an unknown kind: %s", operation, call.Body)
		}
		all = append(all, access{operation, name.table, key})
	}
	var in struct {
		part
		RequestItems  map[string]json.RawMessage
		TransactItems []map[string]part
	}
	if err := json.Unmarshal(call.Body, &in); err != nil {
		return nil, fmt.Errorf("%s: %w", call.Operation, err)
	}
	switch call.Operation {
	case "BatchGetItem", "BatchWriteItem":
		for table, text := range in.RequestItems {
			keys, bad := batched(text)
			err = cmp.Or(err, bad)
			for _, key := range keys {
				add(call.Operation, part{TableName: table, Key: key})
			}
		}
	case "TransactWriteItems":
		operations := map[string]string{"Put": "PutItem", "Update": "UpdateItem", "Delete": "DeleteItem", "ConditionCheck": "ConditionCheckItem"}
		for _, item := range in.TransactItems {
			for kind, p := range item {
				add(operations[kind], p)
			}
		}
	default:
		add(call.Operation, in.part)
	}
	return all, err
}

// batched returns the keys, or items, of a table in a BatchGetItem or a BatchWriteItem.
func batched(text []byte) (keys []image, err error) {
	var gets struct{ Keys []image }
	if json.Unmarshal(text, &gets) == nil {
		return gets.Keys, nil
	}
	var writes []struct{ PutRequest, DeleteRequest part }
	if err := json.Unmarshal(text, &writes); err != nil {
		return nil, err
	}
	for _, w := range writes {
		for _, key := range []image{w.PutRequest.Item, w.DeleteRequest.Key} {
			if key != nil {
				keys = append(keys, key)
			}
		}
	}
	return keys, nil
}

// partitioned matches the condition of a query on its partition key.
var partitioned = regexp.MustCompile(`^\(?#?\w+ = (:\w+)`)

// queried returns the partition of a query, "" if it is not a query.
func queried(p part) string {
	found := partitioned.FindStringSubmatch(p.KeyConditionExpression)
	if found == nil {
		return ""
	}
	return p.ExpressionAttributeValues[found[1]].S
}

// TestLedger: the ledger understands all calls, and complains about those that no role allows.
func TestLedger(t *testing.T) {
	item := func(key, value string) string { return `{"` + key + `":{"S":"` + value + `"}}` }
	batch := func(text string) string { return `{"RequestItems":{"` + text + `}}` }
	for _, tt := range []struct{ function, operation, body, complaint string }{
		{config.Command, "PutItem", `{"TableName":"parley-events","Item":` + item("stream", "room/1") + `}`, ""},
		{config.Command, "PutItem", `{"TableName":"parley-events","Item":` + item("stream", "ops/"+inRegion) + `}`, ""},
		{config.Command, "PutItem", `{"TableName":"parley-events","Item":` + item("stream", "ops/us-east-1") + `}`, `not allow PutItem on events, of "ops/us-east-1"`},
		{config.Command, "UpdateItem", `{"TableName":"parley-events","Key":` + item("stream", "room/1") + `}`, "not allow UpdateItem on events"},
		{config.Command, "BatchGetItem", batch(`parley-events":{"Keys":[` + item("stream", "room/1") + `]}`), "not allow BatchGetItem on events"},
		{config.Query, "BatchGetItem", batch(`parley-events":{"Keys":[` + item("stream", "room/1") + `]}`), ""},
		{config.Query, "PutItem", `{"TableName":"parley-views","Item":` + item("partition", "x") + `}`, "not allow PutItem on Views"},
		{config.Beat, "PutItem", `{"TableName":"parley-events","Item":` + item("stream", "region/"+inRegion) + `}`, ""},
		{config.Beat, "PutItem", `{"TableName":"parley-events","Item":` + item("stream", "region/"+inRegion+".7") + `}`, ""},
		{config.Beat, "PutItem", `{"TableName":"parley-events","Item":` + item("stream", "region/us-east-1") + `}`, "not allow PutItem on events"},
		{config.Beat, "PutItem", `{"TableName":"parley-events","Item":` + item("stream", "region/us-east-1.7") + `}`, "not allow PutItem on events"},
		{config.Beat, "PutItem", `{"TableName":"parley-events","Item":` + item("stream", "region/"+inRegion+"0") + `}`, "not allow PutItem on events"},
		{config.Stream, "TransactWriteItems", `{"TransactItems":[{"Update":{"TableName":"parley-connections","Key":` + item("partition", "x") + `}}]}`, ""},
		{config.Stream, "TransactWriteItems", `{"TransactItems":[{"Delete":{"TableName":"parley-events","Key":` + item("stream", "room/1") + `}}]}`, "not allow DeleteItem on events"},
		{config.Stream, "BatchWriteItem", batch(`parley-views":[{"DeleteRequest":{"Key":` + item("partition", "x") + `}}]`), "not allow BatchWriteItem on Views"},
		{config.Replayer, "Query", `{"TableName":"parley-views","KeyConditionExpression":"#p = :p AND #s < :s","ExpressionAttributeValues":` + item(":p", "ops/jobs") + `}`, ""},
		{config.Replayer, "Query", `{"TableName":"parley-views","KeyConditionExpression":"#p = :p AND #s < :s","ExpressionAttributeValues":` + item(":p", "parked") + `}`, "not allow Query on Views"},
		{config.Stream, "DeleteItem", `{"TableName":"parley-keys","Key":` + item("user", "ada") + `}`, ""},
		{config.Command, "DeleteItem", `{"TableName":"parley-keys","Key":` + item("user", "ada") + `}`, "not allow DeleteItem on keys"},
		{config.Worker, "Query", `{"TableName":"parley-keys","KeyConditionExpression":"#u = :u","ExpressionAttributeValues":` + item(":u", "ada") + `}`, "not allow Query on keys"},
		{config.Worker, "Scan", `{"TableName":"parley-events"}`, ""},
		{config.Query, "Scan", `{"TableName":"parley-events"}`, "not allow Scan on events"},
		{config.Query, "Query", `{"TableName":"parley-views"}`, "unknown kind"},
		{config.Query, "GetItem", `{"TableName":"others","Key":` + item("stream", "room/1") + `}`, "unknown kind"},
		{config.Query, "DescribeTable", `{"TableName":"parley-events"}`, "unknown kind"},
	} {
		l := newLedger()
		l.note(tt.function, dynamotest.Call{Operation: tt.operation, Body: []byte(tt.body)})
		got := strings.Join(l.complaints(), "\n")
		if (got == "") != (tt.complaint == "") || !strings.Contains(got, tt.complaint) {
			t.Errorf("%s, %s %s: %q, want %q", tt.function, tt.operation, tt.body, got, tt.complaint)
		}
		if len(slices.Collect(maps.Keys(l.made[tt.function]))) != 1 {
			t.Errorf("%s makes %v", tt.operation, l.made)
		}
	}
}
