package wire

import (
	"encoding/json"
	"errors"
	"time"

	"parley/events"
)

// Health is how a region is: what GET /health answers.
type Health struct {
	Region    string             `json:"region"`
	Version   string             `json:"version" doc:"The build of Parley that answers."`
	Status    string             `json:"status" doc:"ok, drained or failing."`
	Error     string             `json:"error,omitempty" doc:"Which part does not work: the log, the views, or the stage stream, if the region's own heartbeats do not come back through its change stream."`
	Stages    map[string]float64 `json:"stages,omitempty" doc:"Seconds that the oldest event a stage has not handled has waited."`
	Frontiers map[string]float64 `json:"frontiers" doc:"Seconds since the last heartbeat received from each region was made, in that of its streams which is furthest behind. Heartbeats come once a minute, so up to about 60 is no lag."`
}

// Status is how a region is, for an operator.
type Status struct {
	Region    string               `json:"region"`
	Version   string               `json:"version" doc:"The build of Parley that answers."`
	Time      time.Time            `json:"time" doc:"The region's clock."`
	Health    Health               `json:"health"`
	Drain     Drain                `json:"drain"`
	Parked    int                  `json:"parked" doc:"Events set aside; 1000 stands for 1000 or more."`
	Jobs      []Job                `json:"jobs" doc:"Those that have not ended, the latest first."`
	Frontiers map[string]time.Time `json:"frontiers" doc:"When the last heartbeat received from each region was made, in that of its streams which is furthest behind."`

	Generations map[string]Generation `json:"generations" doc:"By projection."`
}

// Drain says whether traffic should leave a region. It is also stored in this form.
type Drain struct {
	Drained bool       `json:"drained"`
	By      string     `json:"by,omitempty" doc:"The operator who changed it last."`
	Since   *time.Time `json:"since,omitempty"`
}

// Generation says which builds of a projection's views there are.
type Generation struct {
	Projection string `json:"projection"`
	Live       int    `json:"live" doc:"Is read."`
	Previous   int    `json:"previous,omitempty" doc:"Was read before the last switch; kept current."`
	Next       int    `json:"next,omitempty" doc:"Is being built; kept current."`
	By         string `json:"by,omitempty" doc:"The job that builds it."`
	Dropped    []int  `json:"dropped,omitempty" doc:"Being deleted."`
	Since      string `json:"since,omitempty" doc:"When any of this changed last."`
}

// The states of a job.
const (
	JobRunning   = "running"
	JobPaused    = "paused"
	JobCancelled = "cancelled"
	JobDone      = "done"
	JobFailed    = "failed"
)

// Job is long work that an operator asked for: it is done in steps, survives restarts, and can be
// paused, resumed and cancelled. It is also stored in this form.
type Job struct {
	ID          string    `json:"id"`
	Kind        string    `json:"kind"`
	Params      Params    `json:"params"`
	State       string    `json:"state" enum:"running,paused,cancelled,done,failed"`
	Phase       string    `json:"phase,omitempty" doc:"What it is doing, in a word."`
	Done        int64     `json:"done" doc:"Events, or what the kind of job counts."`
	Total       int64     `json:"total,omitempty" doc:"Missing while it is not known."`
	Rate        float64   `json:"rate" doc:"Done per second, recently."`
	SecondsLeft *int      `json:"seconds_left,omitempty" doc:"At that rate."`
	Error       string    `json:"error,omitempty" doc:"Of the last step that failed; it is retried unless the state is failed."`
	Result      JobResult `json:"result,omitempty"`
	By          string    `json:"by" doc:"The operator who started it."`
	Started     time.Time `json:"started"`
	Updated     time.Time `json:"updated"`
}

// Ended reports whether nothing will be done any more, unless an operator resumes the job.
func (j Job) Ended() bool {
	return j.State == JobDone || j.State == JobFailed || j.State == JobCancelled
}

// Params are what a job is asked to do. Each kind of job takes some of them.
type Params struct {
	DryRun     bool   `json:"dry_run,omitempty" doc:"Count and price the work, and change nothing."`
	Projection string `json:"projection,omitempty" doc:"rebuild, audit: of which views; missing: of all. drop: whose previous generation. feed, for a rebuild, fills gaps in feeds."`
	Room       string `json:"room,omitempty" doc:"Of this room only."`
	To         string `json:"to,omitempty" doc:"replay: what stands before the slash in its detail types, 1 to 32 of a-z 0-9 -."`
	From       string `json:"from,omitempty" doc:"replay: not before this time, or event."`
	Until      string `json:"until,omitempty" doc:"replay: before this time, or event."`
	Type       string `json:"type,omitempty" doc:"replay: of this type only; message.* is all that begin so."`
	Rate       int    `json:"rate,omitempty" doc:"replay: events a second, 1 to 10000; missing: 100."`
	Heal       bool   `json:"heal,omitempty" doc:"audit: repair what differs."`
}

// NewJob is a job to be started.
type NewJob struct {
	Kind string `json:"kind" doc:"rebuild, audit, drop or replay."`
	Params
}

// JobResult is the result of a job, a JSON object: a [RebuildResult] or [RebuildCost], a [ReplayResult]
// or a [DropResult], by the kind of the job.
type JobResult json.RawMessage

// MarshalJSON implements [json.Marshaler].
func (r JobResult) MarshalJSON() ([]byte, error) { return r, nil }

// UnmarshalJSON implements [json.Unmarshaler].
func (r *JobResult) UnmarshalJSON(text []byte) error {
	*r = append((*r)[:0], text...)
	return nil
}

// RebuildResult is the result of a rebuild or an audit.
type RebuildResult struct {
	Events   int64     `json:"events"`             // of the log, folded
	Failed   int64     `json:"failed,omitempty"`   // of those, events that cannot be folded
	Views    int64     `json:"views"`              // compared
	Differ   int64     `json:"differ"`             // live views that are not what the log adds up to
	Healed   int64     `json:"healed,omitempty"`   // of those, repaired
	TooMany  bool      `json:"too_many,omitempty"` // too many differ to compare each: rebuild instead
	Findings []Finding `json:"findings,omitempty"` // the first of them
}

// Finding is a view that is not what the log adds up to.
type Finding struct {
	Projection string        `json:"projection"`
	Stream     events.Stream `json:"stream"` // whose events touch it
	Key        ViewKey       `json:"key"`    // in the first generation
	Fault      string        `json:"fault"`  // missing, extra, differs or damaged
	Fields     []string      `json:"fields,omitempty"`
	Healed     bool          `json:"healed,omitempty"`
}

// ViewKey names a view.
type ViewKey struct {
	Partition string `json:"partition"`
	Sort      string `json:"sort"`
}

// RebuildCost is the result of a dry run of a rebuild or an audit: what it takes, at most.
type RebuildCost struct {
	Events     int64   `json:"events"`
	Scanned    int64   `json:"scanned"`     // events read to find them
	Views      int64   `json:"views"`       // that would be saved, at most: each once for every event
	ReadUnits  int64   `json:"read_units"`  // of DynamoDB
	WriteUnits int64   `json:"write_units"` // of DynamoDB
	Dollars    float64 `json:"dollars"`     // in us-east-1
}

// ReplayResult is the result of a replay: what it takes, or has taken.
type ReplayResult struct {
	Events    int64   `json:"events"`     // that match
	Scanned   int64   `json:"scanned"`    // that were read to find them
	ReadUnits int64   `json:"read_units"` // of DynamoDB, to read them once to count and once to publish
	Dollars   float64 `json:"dollars"`    // for reading and publishing, in us-east-1
	Published int64   `json:"published"`
	Refused   int64   `json:"refused"` // by the bus, for good
	Seconds   int64   `json:"seconds"` // at the rate asked for
}

// DropResult is the result of a drop.
type DropResult struct {
	Deleted int64 `json:"deleted"` // views
}

// JobPage is a page of jobs.
type JobPage struct {
	Jobs   []Job   `json:"jobs"`
	Before *string `json:"before" doc:"Give it as before= to get the next page; null if there is none."`
}

// Parked is an event that could not be handled.
type Parked struct {
	Key    string    `json:"key"`
	Stage  string    `json:"stage" doc:"Where it failed: decode, project, publish or trigger."`
	Error  string    `json:"error"`
	At     time.Time `json:"at" doc:"When it failed last."`
	Tries  int       `json:"tries" doc:"How often it was parked."`
	Stream string    `json:"stream,omitempty" doc:"If it is known."`
	ID     string    `json:"id,omitempty" doc:"The event's ULID, a dot, and the digest of what is stored."`
	Event  RawEvent  `json:"event,omitempty" doc:"The event as it came."`
	Record string    `json:"record,omitempty" doc:"What came, where it is no event."`
}

// ParkedPage is a page of parked events.
type ParkedPage struct {
	Parked []Parked `json:"parked"`
	After  *string  `json:"after" doc:"Give it as after= to get the next page; null if there is none."`
}

// ParkedChange names a parked event.
type ParkedChange struct {
	Key string `json:"key"`
}

// ParkedOutcome is the outcome of retrying or dropping a parked event.
type ParkedOutcome struct {
	Key     string `json:"key"`
	Outcome string `json:"outcome" enum:"handled,parked,dropped" doc:"handled: it is no longer parked. parked: it failed again."`
	Error   string `json:"error,omitempty" doc:"Why it failed again."`
	Tries   int    `json:"tries,omitempty" doc:"How often it was parked."`
}

// RawEvent is an event as the log has it, as JSON: what [events.Event] reads and writes.
type RawEvent json.RawMessage

// MarshalJSON implements [json.Marshaler].
func (e RawEvent) MarshalJSON() ([]byte, error) { return e, nil }

// UnmarshalJSON implements [json.Unmarshaler].
func (e *RawEvent) UnmarshalJSON(text []byte) error {
	if len(text) == 0 || text[0] != '{' {
		return errors.New("not an object")
	}
	*e = append((*e)[:0], text...)
	return nil
}

// EventPage is a page of a stream or of the log.
type EventPage struct {
	Events []RawEvent `json:"events"`
	After  *string    `json:"after" doc:"Give it as after= to get the next page; null if there is none."`
}

// MarksOf is the body that asks for the marks of users.
type MarksOf struct {
	Users []string `json:"users" maxItems:"1000"`
}

// Marks are the marks of users, see [Me].
type Marks struct {
	Marks map[string]string `json:"marks" doc:"In hexadecimal, by user id."`
}

// NewEvents are events to be appended as they are.
type NewEvents struct {
	Events []RawEvent `json:"events" maxItems:"100"`
	Shared bool       `json:"shared,omitempty" doc:"Append an event also if the log has other content under its id: another region's log has both."`
}

// The outcomes of appending an event.
const (
	AppendStored  = "stored"
	AppendRepeat  = "repeat"
	AppendRefused = "refused"
)

// Appended is the outcome of appending one event.
type Appended struct {
	ID      string   `json:"id,omitempty" doc:"Missing where the event could not be read."`
	Outcome string   `json:"outcome" enum:"stored,repeat,refused" doc:"repeat: the log had it."`
	Problem *Refusal `json:"problem,omitempty"`
}

// Refusal says why one event of several was refused.
type Refusal struct {
	Code   string `json:"code" doc:"As in Problem."`
	Detail string `json:"detail"`
	Field  string `json:"field,omitempty" doc:"The field at fault."`
}

// AppendResult has the outcome of each event, in their order.
type AppendResult struct {
	Events []Appended `json:"events"`
}

// Digest is a digest of one stream in one hour.
type Digest struct {
	Stream string     `json:"stream"`
	Hour   time.Time  `json:"hour" doc:"When it begins."`
	Count  int        `json:"count"`
	SHA256 string     `json:"sha256" doc:"Over the digests of its events, in hexadecimal."`
	Shared []SharedID `json:"shared,omitempty" doc:"Its events that share their id with another, next to each other: regions accepted them before they heard of each other."`
}

// SharedID is an event that shares its id with another of its stream.
type SharedID struct {
	ID     string `json:"id" doc:"The event's ULID, a dot, and the digest of what is stored."`
	Type   string `json:"type"`
	Region string `json:"region" doc:"That accepted it."`
}

// DigestPage is a page of digests.
type DigestPage struct {
	Digests []Digest `json:"digests"`
	After   *string  `json:"after" doc:"Give it as after= to get the next page; null if there is none."`
}

// EventDigest is a digest of one event: of all that two regions must agree on.
type EventDigest struct {
	ID     string `json:"id" doc:"The event's ULID, a dot, and the digest of what is stored."`
	Type   string `json:"type"`
	SHA256 string `json:"sha256" doc:"Over the content of the event, in hexadecimal; the region that accepted it is left out."`
}

// EventDigestPage is a page of the digests of the events of an hour.
type EventDigestPage struct {
	Events []EventDigest `json:"events"`
	After  *string       `json:"after" doc:"Give it as after= to get the next page; null if there is none."`
}

// Erasure is how far the erasure of a user is.
type Erasure struct {
	User    string          `json:"user"`
	Event   string          `json:"event" doc:"The event user.erased; its id says when. Empty if the user is not erased."`
	By      string          `json:"by" doc:"The operator who did it. Empty if the user is not erased."`
	Regions []ErasureRegion `json:"regions" doc:"All that this region has ever received a heartbeat from."`

	Unsealed     []Unsealed `json:"unsealed,omitempty" doc:"Of a dry run: the names and topics that the user gave and rooms have now. They are not encrypted, and stay."`
	MoreUnsealed bool       `json:"more_unsealed,omitempty" doc:"The user has more rooms than were searched."`
}

// Unsealed is a text that a user gave a room.
type Unsealed struct {
	Room  string `json:"room"`
	Field string `json:"field" enum:"name,topic"`
	Text  string `json:"text"`
}

// ErasureRegion is how far an erasure is in one region.
type ErasureRegion struct {
	Region       string `json:"region"`
	Acknowledged bool   `json:"acknowledged" doc:"The user's keys are destroyed there."`
}
