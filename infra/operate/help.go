package main

// What -help of a command says beyond its flags.

// Help is shown by -help.
func (importCmd) Help() string {
	return `JSON lines: {"room":"engines","author":"ada","at":"2026-01-31T12:00:00Z","text":"…"}, and if need be "id", any text that names the message in its room, and "thread", the id or the time of an earlier message. Lines may also be events, as export writes them.

Slack: channels.json, groups.json, mpims.json, dms.json, users.json and a folder of days for each. Threads, edits, reactions, joining and leaving are taken; files and other subtypes are reported.

Ids are made of the source: importing again adds nothing, and an import that was stopped goes on when it is run again. A room of JSON lines is its name, its owner and the time of its first line, so import all files of one conversation together, as a folder. Messages of one millisecond keep the order of the source, which may move some on by a few milliseconds.

Examples:
  operate import apollo13.jsonl -dry-run
  operate import old.jsonl -shift 20000d -owner ada -report left-out.txt
  operate import slack-export.zip -region eu-west-1`
}

// Help is shown by -help.
func (exportCmd) Help() string {
	return `Events are written stream by stream, each in its order, those of users with those of rooms; what regions and operators note about themselves is left out. Imported into an empty Parley they make the same log.

Examples:
  operate export all -out all.jsonl
  operate export 01DXF6DT00ZQQ4638002A38DG8 -messages | head`
}

// Help is shown by -help.
func (eraseCmd) Help() string {
	return `Everybody's messages and profile are sealed under a key of theirs. In each region that hears of the erasure the user's keys are destroyed: from then on all that she wrote reads as erased, wherever it is read, also from the log, a replay or a backup of either; other processes of a region may still open it for 30 seconds. Her id stays where it stands, as do reactions, and what was delivered before: subscribers hear of it as user.erased. Regions that are cut off follow when they hear of it. Run again it shows who has acknowledged.

Examples:
  operate erase ada -dry-run
  operate erase ada -yes`
}

// Help is shown by -help.
func (rebuildCmd) Help() string {
	return `The next generation is built beside the one that is read while both get what happens, the two are compared, and all reads switch at once: nobody notices. "differ" counts what was wrong before. One region comes after the other. The old generation can be gone back to with operate back, until operate drop deletes it, which the next rebuild asks for.

Examples:
  operate rebuild timeline -dry-run
  operate rebuild all -region ap-southeast-2
  operate rebuild timeline -room 01DXF6DT00ZQQ4638002A38DG8`
}

// Help is shown by -help.
func (auditCmd) Help() string {
	return `First the logs of all regions are compared, by digests of each stream and hour, then event by event where these differ. Then each region's views are compared with what its log adds up to. Every difference is named, and the exit code is 3; with -heal it is 0 if all could be repaired. An event with another content in one region cannot be repaired by appending it, and stays a difference.

Examples:
  operate audit
  operate audit -only regions -heal
  operate audit -projection timeline -region eu-west-1 -json`
}

// Help is shown by -help.
func (replayCmd) Help() string {
	return `Events keep their ids, and carry a replay id. Their detail types begin with the prefix ("billing/message.posted"), so rules for ordinary events never match. It happens in one region: the first, or -region.

Examples:
  operate replay -to billing -from 2026-01-01T00:00:00Z -type 'message.*' -dry-run
  operate replay -to billing -room 01DXF6DT00ZQQ4638002A38DG8 -rate 1000`
}

// Help is shown by -help.
func (tailCmd) Help() string {
	return `Of a room it shows what comes to its log, from other regions, too, if it is not older than two minutes. Without -room it shows the bus of a region of infra/local; that of a deployed region is EventBridge's.

Examples:
  operate tail -type 'message.*'
  operate tail -room 01DXF6DT00ZQQ4638002A38DG8 -past 20
  operate tail -room ops/us-east-1`
}
