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

// Right is the right of a function to an operation on a table of DynamoDB.
type Right struct {
	Operation string   // as IAM calls it: a transaction needs the right to each of its parts
	Table     string   // one of them
	Keys      []string // the allowed partition keys, where * is any text and [OwnRegion] the function's region; nil: all
}

// OwnRegion stands for the region in the keys of a [Right], as in a template.
const OwnRegion = "${AWS::Region}"

// Allows reports whether the right allows an operation on a partition of a table, in a region.
func (r Right) Allows(operation, table, key, region string) bool {
	return r.Operation == operation && r.Table == table && (r.Keys == nil || slices.ContainsFunc(r.Keys, func(pattern string) bool {
		return matches(strings.ReplaceAll(pattern, OwnRegion, region), key)
	}))
}

// matches reports whether a key is a pattern, in which * is any text.
func matches(pattern, key string) bool {
	before, after, open := strings.Cut(pattern, "*")
	if !open {
		return key == pattern
	}
	rest, begins := strings.CutPrefix(key, before)
	for begins {
		if matches(after, rest) {
			return true
		}
		if rest == "" {
			break
		}
		rest = rest[1:]
	}
	return false
}

// with returns the rights to operations on a table.
func with(table string, keys []string, operations ...string) []Right {
	rights := make([]Right, len(operations))
	for i, operation := range operations {
		rights[i] = Right{operation, table, keys}
	}
	return rights
}

// The keys that some rights are limited to.
var (
	appended = []string{string(events.RoomStream("*")), string(events.UserStream("*"))} // by clients
	recorded = append(slices.Clone(appended), string(events.OpsStream(OwnRegion)))      // and what operators do, or Parley by itself
	beats    = []string{string(events.RegionStream(OwnRegion)), string(events.RegionStream(OwnRegion)) + ".*"}
	acts     = []string{string(events.OpsStream(OwnRegion))}
	jobs     = []string{"ops/jobs"}
	texts    = []string{"timeline/*", "g*/timeline/*"} // in any generation
)

// onConnections are the rights to the table of connections.
var onConnections = with(Connections, nil,
	"BatchGetItem", "BatchWriteItem", "ConditionCheckItem", "DeleteItem", "GetItem", "PutItem", "Query", "UpdateItem")

// seals are the rights to users' keys of a function that encrypts: it reads keys, adds one, and checks
// whether the user was erased meanwhile. opens are those of a function that only decrypts.
var (
	seals = with(Keys, nil, "GetItem", "PutItem", "Query")
	opens = with(Keys, nil, "Query")
)

// Rights are what each function may do with tables, and nothing else. Tests compare the template's roles
// with it, and the calls that the binary makes. No function may update or delete in the event table, and
// only the stream function may destroy users' keys.
var Rights = map[string][]Right{
	Command: slices.Concat(
		with(Events, nil, "GetItem", "Query"), with(Events, recorded, "PutItem"),
		with(Views, nil, "BatchGetItem", "GetItem", "PutItem", "Query"), seals),
	Query: slices.Concat(
		with(Events, nil, "BatchGetItem", "GetItem", "Query"),
		with(Views, nil, "BatchGetItem", "GetItem", "Query"), opens),
	Health: slices.Concat(
		with(Events, nil, "GetItem", "Query"),
		with(Views, nil, "BatchGetItem", "GetItem", "Query")),
	Live: slices.Concat(
		with(Events, nil, "BatchGetItem", "GetItem", "Query"), with(Events, appended, "PutItem"),
		with(Views, nil, "BatchGetItem", "GetItem", "PutItem", "Query"), onConnections, seals),
	// It appends late notices, and to the region's own stream whose keys are destroyed.
	Stream: slices.Concat(
		with(Events, nil, "BatchGetItem", "GetItem", "Query"), with(Events, recorded, "PutItem"),
		with(Views, nil, "BatchGetItem", "GetItem", "PutItem", "Query"), onConnections,
		with(Keys, nil, "DeleteItem", "PutItem", "Query")),
	Beat: with(Events, beats, "GetItem", "PutItem"),
	Operate: slices.Concat(seals,
		with(Events, nil, "BatchGetItem", "GetItem", "Query", "Scan"), with(Events, recorded, "PutItem"),
		with(Views, nil, "BatchGetItem", "GetItem", "Query"),
		with(Views, []string{"ops/*", "generations"}, "PutItem"), with(Views, []string{"parked"}, "DeleteItem")),
	Worker: slices.Concat(
		with(Events, nil, "GetItem", "Query", "Scan"), with(Events, acts, "PutItem"),
		with(Views, nil, "BatchGetItem", "DeleteItem", "GetItem", "PutItem", "Query", "Scan")),
	Replayer: slices.Concat(opens,
		with(Events, nil, "GetItem", "Query", "Scan"), with(Events, acts, "PutItem"),
		with(Views, nil, "BatchGetItem", "GetItem"), with(Views, texts, "Query"), with(Views, jobs, "PutItem", "Query")),
}
