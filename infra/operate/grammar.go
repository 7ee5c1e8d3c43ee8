package main

import "time"

const description = `The operators' command line of Parley. It talks to regions over HTTP.

With go run ./infra/local running it finds all regions and a token by itself. For regions that are deployed name each with -url, and give a token whose scope holds "operator" in PARLEY_TOKEN.

Exit codes: 0 all is well, 1 it failed, 2 the command line is wrong, 3 differences were found. (go run itself always exits with 1: scripts should go build.)`

// cli is the grammar of the command line.
type cli struct {
	Global

	Status  statusCmd  `cmd:"" help:"How each region is: health, lag, what is parked, jobs, generations."`
	Drain   drainCmd   `cmd:"" help:"Let traffic leave a region: its health answers 503, its views stay current."`
	Undrain undrainCmd `cmd:"" help:"Let traffic come back to a region."`

	Rebuild rebuildCmd `cmd:"" help:"Build the views of a projection anew from the log, beside the ones in use, and switch."`
	Back    backCmd    `cmd:"" help:"Switch a projection back to the generation before."`
	Drop    dropCmd    `cmd:"" help:"Delete the generation of a projection that was read before the last switch."`
	Audit   auditCmd   `cmd:"" help:"Do views agree with the log, and the logs of all regions with each other?"`
	Replay  replayCmd  `cmd:"" help:"Publish history again, under detail types of its own, to those who asked for it."`
	Jobs    jobsCmd    `cmd:"" help:"The long work of a region: list, show, watch, pause, resume, cancel."`
	Parked  parkedCmd  `cmd:"" help:"Events that could not be handled: list, show, retry, drop."`

	Events eventsCmd `cmd:"" help:"The events of a room, as they are in the log."`
	Tail   tailCmd   `cmd:"" help:"Follow events as they come."`
	Import importCmd `cmd:"" help:"Bring in conversations held elsewhere: JSON lines, or Slack's export."`
	Erase  eraseCmd  `cmd:"" help:"Make all that a user ever wrote unreadable, for good."`
	Export exportCmd `cmd:"" help:"Write events or messages as JSON lines, to be imported again."`
}

// Global are the flags of all commands.
type Global struct {
	URL    []string `placeholder:"URL" env:"PARLEY_URL" default:"http://127.0.0.1:8080" help:"A region's URL, or that of infra/local, which knows its regions. May be given several times."`
	Region []string `placeholder:"NAME" help:"Only these of the regions. Default: all; of commands that need just one, the first that answers."`
	Token  string   `placeholder:"TEXT" env:"PARLEY_TOKEN" help:"An operator's token. infra/local on this machine hands one out by itself."`
	As     string   `placeholder:"USER" default:"operator" help:"Who to be, to infra/local; what you do is noted under this name."`
	JSON   bool     `name:"json" help:"Results as JSON, and nothing else on standard output."`
}

type statusCmd struct{}

type drainCmd struct {
	Name string `arg:"" name:"region" help:"The region's name."`
}

type undrainCmd struct {
	Name string `arg:"" name:"region" help:"The region's name."`
}

type rebuildCmd struct {
	Projection string `arg:"" help:"Which views: timeline, member, room, thread, inbox, user, beat, or all of them; feed fills gaps in feeds."`
	Room       string `placeholder:"ID" help:"Of this room only."`
	DryRun     bool   `help:"Count and price the work, and change nothing."`
	Detach     bool   `help:"Start it and leave it to itself."`
}

type backCmd struct {
	Projection string `arg:"" help:"Which projection."`
}

type dropCmd struct {
	Projection string `arg:"" help:"Which projection."`
}

type auditCmd struct {
	Projection string        `placeholder:"NAME" help:"Only the views of this projection."`
	Only       string        `enum:"views,regions,both" default:"both" help:"views: each region's against its log. regions: the logs against each other. Default: both."`
	Heal       bool          `help:"Repair what differs: fold views again, append missing events."`
	DryRun     bool          `help:"Count and price the work on views, and change nothing."`
	Settle     time.Duration `default:"5s" help:"How long what differs between regions is given to arrive before it counts."`
}

type replayCmd struct {
	To     string `required:"" placeholder:"PREFIX" help:"What stands before the slash in the detail types, 1 to 32 of a-z 0-9 -. Only rules that match PREFIX/* get it."`
	From   string `placeholder:"TIME" help:"Not before this time (RFC 3339) or event id."`
	Until  string `placeholder:"TIME" help:"Before this time or event id."`
	Room   string `placeholder:"ID" help:"Of this room only."`
	Type   string `placeholder:"NAME" help:"Of this type only; message.* is all that begin so."`
	Rate   int    `placeholder:"N" help:"Events a second, 1 to 10000. Default: 100."`
	DryRun bool   `help:"Count and price the work, and change nothing."`
	Detach bool   `help:"Start it and leave it to itself."`
}

type jobsCmd struct {
	List   jobsListCmd   `cmd:"" default:"1" help:"The jobs, the latest first."`
	Show   jobsShowCmd   `cmd:"" help:"All about a job."`
	Watch  jobsWatchCmd  `cmd:"" help:"Follow a job to its end. Ctrl-C leaves it running."`
	Pause  jobsPauseCmd  `cmd:"" help:"Let a job rest."`
	Resume jobsResumeCmd `cmd:"" help:"Go on with a job that is paused or has failed."`
	Cancel jobsCancelCmd `cmd:"" help:"End a job for good."`
}

type jobsListCmd struct {
	Limit int `default:"20" help:"At most so many of each region."`
}

type jobArg struct {
	ID string `arg:"" help:"The job's id."`
}

type (
	jobsShowCmd   struct{ jobArg }
	jobsWatchCmd  struct{ jobArg }
	jobsPauseCmd  struct{ jobArg }
	jobsResumeCmd struct{ jobArg }
	jobsCancelCmd struct{ jobArg }
)

type parkedCmd struct {
	List  parkedListCmd  `cmd:"" default:"1" help:"What is parked, in which region, and why."`
	Show  parkedShowCmd  `cmd:"" help:"A parked event with its error."`
	Retry parkedRetryCmd `cmd:"" help:"Handle parked events again."`
	Drop  parkedDropCmd  `cmd:"" help:"Forget that events were parked. They stay in the log."`
}

type parkedListCmd struct {
	Limit int `default:"100" help:"At most so many of each region."`
}

type parkedShowCmd struct {
	Key string `arg:"" help:"As the list shows it."`
}

type parkedKeys struct {
	Keys []string `arg:"" optional:"" name:"key" help:"As the list shows them."`
	All  bool     `help:"All that are parked."`
}

type (
	parkedRetryCmd struct{ parkedKeys }
	parkedDropCmd  struct{ parkedKeys }
)

type eventsCmd struct {
	Room  string `arg:"" help:"The room's id, or a stream: user/ada, ops/us-east-1."`
	AsOf  string `name:"as-of" placeholder:"TIME" help:"The room as it was at this time (RFC 3339), or after this event."`
	After string `placeholder:"ID" help:"Only what sorts after this event."`
	Limit int    `default:"100" help:"At most so many; 0 is all."`
}

type tailCmd struct {
	Room string `placeholder:"ID" help:"Only this room, or stream."`
	Type string `placeholder:"NAME" help:"Only this type; message.* is all that begin so."`
	Past int    `placeholder:"N" help:"Begin with the last N of the room."`
}

type importCmd struct {
	Path    string `arg:"" name:"file|folder" help:"JSON lines, a folder of *.jsonl, or Slack's export, zip or folder. - is standard input."`
	Shift   shift  `placeholder:"TIME" help:"Add this to all times: 36h, 20000d, -shift=-12h. Ids cannot hold times before 1970."`
	Owner   string `placeholder:"USER" help:"Who owns the rooms of JSON lines. Default: who speaks first in each."`
	Private bool   `help:"Rooms of JSON lines are private."`
	Users   string `enum:"name,id" default:"name" help:"What becomes the user ids of Slack's users: name, which they see, or id, which never changes. Default: name."`
	DryRun  bool   `help:"Read it all, count and price the work, and send nothing."`
	Report  string `placeholder:"FILE" help:"Write everything that could not be taken to this file."`
	Lanes   int    `default:"4" help:"Batches sent side by side. The events of a room are sent in order."`
}

type eraseCmd struct {
	User   string        `arg:"" help:"The user's id."`
	Yes    bool          `help:"Do it. It cannot be undone."`
	DryRun bool          `help:"Count what would be lost, and change nothing."`
	Wait   time.Duration `default:"1m" help:"How long to wait for all regions to acknowledge."`
}

type exportCmd struct {
	Room     string `arg:"" name:"room|all" help:"A room's id, a stream, or all."`
	Messages bool   `help:"Messages as they read now (room, author, at, text, id, thread), and not events."`
	Out      string `placeholder:"FILE" help:"Write to a new file. Default: standard output."`
}
