package config

import (
	"slices"
	"strings"

	"parley/events"
)

// The tables.
const (
	Events      = "events"
	Views       = "Views"
	Connections = "Connections"
	Keys        = "keys"
)

// Right is that a function may do something with a table of DynamoDB.
type Right struct {
	Operation string   // as IAM calls it: a transaction needs the right to each of its parts
	Table     string   // one of them
	Keys      []string // with which partition keys, where * is any text and [OwnRegion] the function's; nil: with all
}

// OwnRegion stands for the region in the keys of a [Right], as in a template.
const OwnRegion = "${AWS::Region}"

// Allows reports whether it is the right to an operation on a partition of a table, in a region.
func (r Right) Allows(operation, table, key, region string) bool {
	return r.Operation == operation && r.Table == table && (r.Keys == nil || slices.ContainsFunc(r.Keys, func(pattern string) bool {
		pattern = strings.ReplaceAll(pattern, OwnRegion, region)
		if prefix, open := strings.CutSuffix(pattern, "*"); open {
			return strings.HasPrefix(key, prefix)
		}
		return key == pattern
	}))
}

// with is the right to operations on a table.
func with(table string, keys []string, operations ...string) []Right {
	rights := make([]Right, len(operations))
	for i, operation := range operations {
		rights[i] = Right{operation, table, keys}
	}
	return rights
}

// The keys that some rights are limited to.
var (
	told     = []string{string(events.RoomStream("*")), string(events.UserStream("*"))} // what clients tell
	imported = append(slices.Clone(told), string(events.RegionStream("*")), string(events.OpsStream("*")))
	noted    = []string{string(events.RoomStream("*")), string(events.OpsStream(OwnRegion))}
	beats    = []string{string(events.RegionStream(OwnRegion))}
	acts     = []string{string(events.OpsStream(OwnRegion))}
	jobs     = []string{"ops/jobs"}
)

// onConnections is all that is done with the table of connections.
var onConnections = with(Connections, nil,
	"BatchGetItem", "BatchWriteItem", "ConditionCheckItem", "DeleteItem", "GetItem", "PutItem", "Query", "UpdateItem")

// What who seals, and who only opens, does with users' keys: it reads them, adds one, and sees
// whether she was erased meanwhile.
var (
	seals = with(Keys, nil, "GetItem", "PutItem", "Query")
	opens = with(Keys, nil, "Query")
)

// Rights are what each function may do with tables, and nothing else: a test holds the template's
// roles to it, and another what the binary does. Nobody may update or delete in the event table, and
// only the stream function may destroy users' keys.
var Rights = map[string][]Right{
	Command: slices.Concat(
		with(Events, nil, "GetItem", "Query"), with(Events, told, "PutItem"),
		with(Views, nil, "BatchGetItem", "GetItem", "PutItem", "Query"), seals),
	Query: slices.Concat(
		with(Events, nil, "BatchGetItem", "GetItem", "Query"),
		with(Views, nil, "BatchGetItem", "GetItem", "Query"), opens),
	Health: slices.Concat(
		with(Events, nil, "GetItem", "Query"),
		with(Views, nil, "BatchGetItem", "GetItem", "Query")),
	Live: slices.Concat(
		with(Events, nil, "BatchGetItem", "GetItem", "Query"), with(Events, told, "PutItem"),
		with(Views, nil, "BatchGetItem", "GetItem", "PutItem", "Query"), onConnections, seals),
	// It says in a room's stream which events were late, and in the region's whose keys are destroyed.
	Stream: slices.Concat(
		with(Events, nil, "BatchGetItem", "GetItem", "Query"), with(Events, noted, "PutItem"),
		with(Views, nil, "BatchGetItem", "GetItem", "PutItem", "Query"), onConnections,
		with(Keys, nil, "DeleteItem", "PutItem", "Query")),
	Beat: with(Events, beats, "GetItem", "PutItem"),
	Operate: slices.Concat(seals,
		with(Events, nil, "BatchGetItem", "GetItem", "Query", "Scan"), with(Events, imported, "PutItem"),
		with(Views, nil, "BatchGetItem", "GetItem", "Query"),
		with(Views, []string{"ops/*", "generations"}, "PutItem"), with(Views, []string{"parked"}, "DeleteItem")),
	Worker: slices.Concat(
		with(Events, nil, "GetItem", "Query", "Scan"), with(Events, acts, "PutItem"),
		with(Views, nil, "BatchGetItem", "DeleteItem", "GetItem", "PutItem", "Query", "Scan")),
	Replayer: slices.Concat(opens,
		with(Events, nil, "GetItem", "Query", "Scan"), with(Events, acts, "PutItem"),
		with(Views, jobs, "GetItem", "PutItem", "Query")),
}
