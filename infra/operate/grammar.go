package main

import (
	"time"

	"github.com/alecthomas/kong"
)

const description = `The command line of Parley's operators. It talks to the regions over HTTP.

While go run ./infra/local is running, it finds all regions and gets a token by itself. For deployed regions, pass each URL with -url, and a token with the scope "operator" in PARLEY_TOKEN.

Exit codes: 0 success, 1 failure, 2 wrong command line, 3 differences found. (go run always exits with 1; use go build for scripts.)`

// cli is the grammar of the command line.
type cli struct {
	Global

	Status  statusCmd  `cmd:"" help:"Show the state of each region: health, lag, parked events, jobs, generations."`
	Drain   drainCmd   `cmd:"" help:"Take a region out of traffic: its health check answers 503, its views stay current."`
	Undrain undrainCmd `cmd:"" help:"Put a drained region back into traffic."`

	Rebuild rebuildCmd `cmd:"" help:"Rebuild the views of a projection from the log without downtime."`
	Back    backCmd    `cmd:"" help:"Switch a projection back to its previous generation."`
	Drop    dropCmd    `cmd:"" help:"Delete the previous generation of a projection."`
	Audit   auditCmd   `cmd:"" help:"Compare views with the log, and the logs of all regions with each other."`
	Replay  replayCmd  `cmd:"" help:"Publish past events again, under detail types of their own."`
	Jobs    jobsCmd    `cmd:"" help:"List, show, watch, pause, resume or cancel jobs."`
	Parked  parkedCmd  `cmd:"" help:"List, show, retry or drop events that could not be handled."`

	Rooms  roomsCmd  `cmd:"" help:"List rooms, or find those whose name or topic contains a text."`
	Users  usersCmd  `cmd:"" help:"List users, or find those whose id or name contains a text."`
	Events eventsCmd `cmd:"" help:"Show the events of a room as they are in the log."`
	Tail   tailCmd   `cmd:"" help:"Follow events as they arrive."`
	Import importCmd `cmd:"" help:"Import conversations from JSON lines or a Slack export."`
	Export exportCmd `cmd:"" help:"Export events or messages as JSON lines."`
	Owner  ownerCmd  `cmd:"" help:"Make a user a member and owner of a room."`
	Erase  eraseCmd  `cmd:"" help:"Make the messages and the profile of a user unreadable, permanently."`

	Version     versionCmd       `cmd:"" help:"Print the version of this program."`
	VersionFlag kong.VersionFlag `name:"version" help:"Print the version of this program."`
}

// Global are the flags of all commands.
type Global struct {
	URL    []string `placeholder:"URL" env:"PARLEY_URL" default:"http://127.0.0.1:8080" help:"URL of a region, or of infra/local, which knows its regions. Repeat it for several regions. NAME=URL names a region that may not answer."`
	Region []string `placeholder:"NAME" help:"Use only this region. Repeat it for several. Default: all; for commands that need one region, the first that answers."`
	Token  string   `placeholder:"TEXT" env:"PARLEY_TOKEN" help:"Token of an operator. infra/local on this machine issues one by itself."`
	As     string   `placeholder:"USER" default:"operator" help:"User to sign in as at infra/local; recorded with each action."`
	JSON   bool     `name:"json" help:"Print results as JSON, one object a line, and nothing else to standard output."`
}

type statusCmd struct{}

type versionCmd struct{}

type drainCmd struct {
	Name string `arg:"" name:"region" help:"Name of the region."`
}

type undrainCmd struct {
	Name string `arg:"" name:"region" help:"Name of the region."`
}

type rebuildCmd struct {
	Projection string `arg:"" help:"timeline, member, room, thread, inbox, user, beat, or all; feed fills gaps in feeds, and deletes the journal of former releases."`
	Room       string `placeholder:"ID" help:"Only this room."`
	DryRun     bool   `help:"Count the work and its price; change nothing."`
	Detach     bool   `help:"Start the job and return at once."`
}

type backCmd struct {
	Projection string `arg:"" help:"timeline, member, room, thread, inbox, user, beat, or all that have a previous generation."`
}

type dropCmd struct {
	Projection string `arg:"" help:"timeline, member, room, thread, inbox, user, beat, or all that have a previous generation."`
}

type auditCmd struct {
	Projection string        `placeholder:"NAME" help:"Only the views of this projection."`
	Only       string        `enum:"views,regions,both" default:"both" help:"views: compare each region's views with its log. regions: compare the logs with each other. Default: both."`
	Heal       bool          `help:"Repair differences: fold views again, append missing events."`
	DryRun     bool          `help:"Count the work on views and its price; change nothing."`
	Settle     time.Duration `default:"5s" help:"How long to wait for replication before a difference between regions counts."`
}

type replayCmd struct {
	To     string `required:"" placeholder:"PREFIX" help:"Prefix of the detail types: 1 to 32 of a-z 0-9 -. Only rules that match PREFIX/* receive the events."`
	From   string `placeholder:"TIME" help:"Only events at or after this time (RFC 3339) or event id."`
	Until  string `placeholder:"TIME" help:"Only events before this time or event id."`
	Room   string `placeholder:"ID" help:"Only this room."`
	Type   string `placeholder:"NAME" help:"Only this type; message.* matches all types that begin with message."`
	Rate   int    `placeholder:"N" default:"100" help:"Events per second, 1 to 10000. Default: 100."`
	DryRun bool   `help:"Count the work and its price; change nothing."`
	Detach bool   `help:"Start the job and return at once."`
}

type jobsCmd struct {
	List   jobsListCmd   `cmd:"" default:"1" help:"List the jobs, latest first."`
	Show   jobsShowCmd   `cmd:"" help:"Show a job."`
	Watch  jobsWatchCmd  `cmd:"" help:"Follow a job until it ends. Ctrl-C leaves it running."`
	Pause  jobsPauseCmd  `cmd:"" help:"Pause a job."`
	Resume jobsResumeCmd `cmd:"" help:"Resume a job that is paused or has failed."`
	Cancel jobsCancelCmd `cmd:"" help:"Cancel a job. It cannot be resumed."`
}

type jobsListCmd struct {
	Limit int `default:"20" help:"Maximum number of jobs for each region."`
}

type jobArg struct {
	ID string `arg:"" help:"Id of the job."`
}

type (
	jobsShowCmd   struct{ jobArg }
	jobsWatchCmd  struct{ jobArg }
	jobsPauseCmd  struct{ jobArg }
	jobsResumeCmd struct{ jobArg }
	jobsCancelCmd struct{ jobArg }
)

type parkedCmd struct {
	List  parkedListCmd  `cmd:"" default:"1" help:"List parked events with region and error."`
	Show  parkedShowCmd  `cmd:"" help:"Show a parked event with its error."`
	Retry parkedRetryCmd `cmd:"" help:"Handle parked events again."`
	Drop  parkedDropCmd  `cmd:"" help:"Remove parked events from the list without handling them. They stay in the log."`
}

type parkedListCmd struct {
	Limit int `default:"100" help:"Maximum number of parked events for each region."`
}

type parkedShowCmd struct {
	Key string `arg:"" help:"Key as shown by parked list."`
}

type parkedKeys struct {
	Keys []string `arg:"" optional:"" name:"key" help:"Keys as shown by parked list."`
	All  bool     `help:"All parked events."`
}

type (
	parkedRetryCmd struct{ parkedKeys }
	parkedDropCmd  struct{ parkedKeys }
)

type roomsCmd struct {
	Text string `arg:"" optional:"" help:"Only rooms whose name or topic contains this text."`
}

type usersCmd struct {
	Text string `arg:"" optional:"" help:"Only users whose id or name contains this text."`
}

type eventsCmd struct {
	Room  string `arg:"" help:"Id of the room, or a stream: user/ada, ops/us-east-1."`
	AsOf  string `name:"as-of" placeholder:"TIME" help:"The room as it was at this time (RFC 3339) or after this event."`
	After string `placeholder:"ID" help:"Only events that sort after this one."`
	Limit int    `default:"100" help:"Maximum number of events; 0 is all."`
}

type tailCmd struct {
	Room string `placeholder:"ID" help:"Only this room or stream."`
	Type string `placeholder:"NAME" help:"Only this type; message.* matches all types that begin with message."`
	Past int    `placeholder:"N" help:"Begin with the last N events of the room."`
}

type importCmd struct {
	Path   string `arg:"" name:"file|folder" help:"JSON lines, a folder with *.jsonl files, or a Slack export as zip file or folder. - is standard input."`
	Shift  shift  `placeholder:"TIME" help:"Add this to all times: 36h, 20000d, -shift=-12h. Ids cannot represent times before 1970."`
	Source string `placeholder:"NAME" help:"Name of the source of JSON lines. Rooms of one name in sources of different names are different rooms; without a name an import continues the room of that name that an earlier import made."`
	Owner  string `placeholder:"USER" help:"Owner of the rooms of JSON lines that do not name one, and of rooms in which nobody is left. Default: the first author of each."`
	Public bool   `help:"Make the rooms public of which the JSON lines do not say what they are. Default: private, with their authors as members."`
	Events bool   `help:"Import lines that are events, as export writes them, as they are: they can make members and owners of rooms that exist. Events that erase users, and those of operators and regions, are left out and counted. Default: such lines are not imported."`
	Users  string `enum:"name,id" default:"name" help:"Which user ids to give Slack's users: name, the user name, or id, Slack's own id, which never changes. Default: name."`
	DryRun bool   `help:"Read the source and count the work and its price; send nothing."`
	Report string `placeholder:"FILE" help:"Write everything that cannot be imported to this file."`
	Lanes  int    `default:"4" help:"Number of batches to send in parallel. The batches of a room are sent one after the other; the events of one may arrive in any order."`
}

type exportCmd struct {
	Room     string `arg:"" name:"room|all" help:"Id of a room, a stream, or all."`
	Messages bool   `help:"Export rooms and their messages as they read now instead of events; import reads both."`
	Out      string `placeholder:"FILE" help:"Write to a new file. Default: standard output."`
}

type ownerCmd struct {
	Room string `arg:"" help:"Id of the room."`
	User string `arg:"" help:"Id of the user."`
}

type eraseCmd struct {
	User   string        `arg:"" help:"Id of the user."`
	Yes    bool          `help:"Erase the user. This cannot be undone."`
	DryRun bool          `help:"Count what would become unreadable, and list what would not; change nothing. Of an erased user, say when that was."`
	Force  bool          `help:"Erase a user id that the region does not know: nobody can use it from then on."`
	Wait   time.Duration `default:"1m" help:"How long to wait for all regions to acknowledge."`
}

// The Help methods return what a command's help says in addition to its flags.

// Help implements [kong.HelpProvider].
func (importCmd) Help() string {
	return `JSON lines: {"room":"engines","author":"ada","at":"2026-01-31T12:00:00Z","text":"…"}, optionally with "id", any text that identifies the message in its room, "thread" and "reply_to", the id or the time of another message, "edited", the time of the present text, "reactions":{":+1:":["bob"]} and "pinned", the user who pinned it. A line {"room":"engines","about":{"private":false,"topic":"…","owner":"ada","members":{"bob":"member"}}} describes a room; "direct":["ada","bob"] makes it their direct room. A room that no line describes is private, unless -public is given.

With -events, lines may also be events as written by export. Check such a file with -dry-run first: it counts the events of each type.

Slack: channels.json, groups.json, mpims.json, dms.json, users.json or org_users.json, and a folder of days for each channel. Threads, edits, reactions, pins, joins and leaves are imported, attachments and blocks as text; the contents of files are reported. Groups, direct messages and folders that no list names are private. If the creator of a channel is no longer a member, another member becomes an owner, which is reported.

Everything is imported or reported. The exit code is 3 if something was not imported.

Identity comes from the source: the id of a channel and of a user, the time of a message in its channel, the name of a room of JSON lines, the "id" of a line. Importing again adds nothing, an interrupted import continues when the command is repeated, and a longer or later export continues the same rooms. Lines without "id" are identified by time, author and text: import files that share a second together, as a folder. Messages of the same millisecond keep their order.

Imported events are published with the source parley.import, so that subscribers to live events are not notified. Those imported with -events are published like any other event, with their old times.

Examples:
  operate import apollo13.jsonl -dry-run
  operate import old.jsonl -shift 20000d -owner ada -report left-out.txt
  operate import all.jsonl -events -dry-run
  operate import slack-export.zip -region eu-west-1
  operate import - < slack-export.zip`
}

// Help implements [kong.HelpProvider].
func (roomsCmd) Help() string {
	return `Upper and lower case are the same. The region's whole log is read, as export all does.

Examples:
  operate rooms
  operate rooms apollo`
}

// Help implements [kong.HelpProvider].
func (usersCmd) Help() string {
	return `Upper and lower case are the same. A user is listed once there is an event of theirs. The region's whole log is read, as export all does.

Examples:
  operate users
  operate users ada -json`
}

// Help implements [kong.HelpProvider].
func (exportCmd) Help() string {
	return `Events are written stream by stream, each stream in order, rooms and users alike; what regions and operators record about themselves is left out. Importing the file with -events into an empty Parley gives the same log, without erasures, which have to be done there again.

With -messages, each room begins with a line that describes it: name, topic, privacy, the two users of a direct room, owner and members. Threads, answers, reactions and pins are kept. The summary counts what this format cannot hold, such as bans.

Examples:
  operate export all -out all.jsonl
  operate export 01DXF6DT00ZQQ4638002A38DG8 -messages | head`
}

// Help implements [kong.HelpProvider].
func (ownerCmd) Help() string {
	return `For a room, also a private one, that has no owner or no members left, for example after an import. The user becomes a member if necessary. The members of the room see that an operator did it.

Example:
  operate owner 01DXF6DT00ZQQ4638002A38DG8 ada`
}

// Help implements [kong.HelpProvider].
func (eraseCmd) Help() string {
	return `Messages and profiles are stored encrypted with a key of their author. Erasing a user destroys this key in every region: the texts of the user's messages and edits, the name and the about text then read as erased everywhere, including in the log, in replays and in backups of either. Processes may cache the key for up to 30 seconds. What is not encrypted stays readable: the user's id, reactions with the names of their emoji, memberships, roles and pins, when and in which room and thread the user wrote, and the names and topics that the user gave rooms, former ones in the log. What was delivered before cannot be recalled; subscribers receive user.erased. A region that is cut off destroys the key when the event arrives. Run the command again to see which regions have acknowledged.

An unknown user is refused, unless -force is given, and every command of an erased user. Check the id with -dry-run first, which also lists the names and topics that stay.

Examples:
  operate erase ada -dry-run
  operate erase ada -yes`
}

// Help implements [kong.HelpProvider].
func (rebuildCmd) Help() string {
	return `The next generation is built while the current one serves reads and both receive new events. Then the two are compared and all reads switch at once, without downtime. "differ" counts views that were wrong before. Regions are rebuilt one after the other. operate back returns to the previous generation until operate drop deletes it; the next rebuild needs it dropped.

Examples:
  operate rebuild timeline -dry-run
  operate rebuild all -region ap-southeast-2
  operate rebuild timeline -room 01DXF6DT00ZQQ4638002A38DG8`
}

// Help implements [kong.HelpProvider].
func (auditCmd) Help() string {
	return `First the logs of all regions are compared: digests of each stream and hour, then the events of hours that differ. Then the views of each region are compared with the result of folding its log. Every difference is listed, and the exit code is 3; with -heal it is 0 if all were repaired. Events that share an id are listed, too: regions accepted them before they heard of each other. All regions have both, which is no difference.

Examples:
  operate audit
  operate audit -only regions -heal
  operate audit -projection timeline -region eu-west-1 -json`
}

// Help implements [kong.HelpProvider].
func (replayCmd) Help() string {
	return `Events keep their ids and carry a replay id. Their detail types begin with the prefix ("billing/message.posted"), so rules for ordinary events never match. One region replays: the first, or that of -region.

Examples:
  operate replay -to billing -from 2026-01-01T00:00:00Z -type 'message.*' -dry-run
  operate replay -to billing -room 01DXF6DT00ZQQ4638002A38DG8 -rate 1000`
}

// Help implements [kong.HelpProvider].
func (tailCmd) Help() string {
	return `With -room it shows what is appended to the room's log, including events of other regions that arrive within two minutes. Without -room it shows the bus of a region of infra/local; the bus of a deployed region is in EventBridge.

Examples:
  operate tail -type 'message.*'
  operate tail -room 01DXF6DT00ZQQ4638002A38DG8 -past 20
  operate tail -room ops/us-east-1`
}
