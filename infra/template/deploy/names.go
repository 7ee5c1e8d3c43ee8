package main

// The names of what is made. Each is the same whoever deploys: another run finds it.

func (s settings) globalStack() string { return "parley-" + s.stage + "-global" }
func (s settings) regionStack() string { return "parley-" + s.stage + "-region" }
func (s settings) eventsTable() string { return "parley-" + s.stage + "-events" }
func (s settings) viewsTable() string  { return "parley-" + s.stage + "-views" }

func (s settings) keysTable() string { return "parley-" + s.stage + "-keys" }

// cursorSecret is the secret of the log's stack.
func (s settings) cursorSecret() string { return "parley-" + s.stage + "-cursors" }

// topicARN is empty without a topic.
func (s settings) topicARN(account, region string) string {
	if s.alarmTopic == "" {
		return ""
	}
	return "arn:" + partition(region) + ":sns:" + region + ":" + account + ":" + s.alarmTopic
}

// codeBucket is the bucket for binaries and templates, shared by the stages of an account: names of
// buckets are taken all over the world, so the account is in it.
func codeBucket(account, region string) string { return "parley-code-" + account + "-" + region }
