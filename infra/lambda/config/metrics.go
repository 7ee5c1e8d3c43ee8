package config

// Namespace is the CloudWatch namespace of all metrics. Their dimensions are Region and Function.
const Namespace = "Parley"

// Dimensions are the dimensions of every metric: the AWS region, and one of [Functions].
var Dimensions = []string{"Region", "Function"}

// The names of the metrics.
const (
	Accepted     = "Accepted"
	AcceptedLag  = "AcceptedLag"
	Projected    = "Projected"
	ProjectedLag = "ProjectedLag"
	Published    = "Published"
	PublishedLag = "PublishedLag"
	Parked       = "Parked"
	Unfinished   = "Unfinished"
	Pushed       = "Pushed"
	Unsent       = "Unsent"
	Gone         = "Gone"
)

// Metric is a metric that the binary writes, once for each invocation that has something to say.
type Metric struct {
	Name      string
	Unit      string   // as CloudWatch calls it
	Functions []string // that write it
	Meaning   string
}

// appends are the functions that append to the log as a matter of course.
var appends = []string{Command, Live, Beat, Operate, Worker, Replayer}

// Metrics are all metrics the binary writes.
var Metrics = []Metric{
	{Accepted, "Count", appends, "events appended to the log, repeats aside"},
	{AcceptedLag, "Milliseconds", appends, "from the time in an event's id until it was in the log"},
	{Projected, "Count", []string{Stream}, "events projected into the views"},
	{ProjectedLag, "Milliseconds", []string{Stream}, "from the time in an event's id until it was in the views"},
	{Published, "Count", []string{Stream}, "events put on the bus"},
	{PublishedLag, "Milliseconds", []string{Stream}, "from the time in an event's id until it was on the bus"},
	{Parked, "Count", []string{Stream}, "events set aside because they cannot be handled"},
	{Unfinished, "Count", []string{Stream}, "batches that were not handled to their end: the rest of them comes again"},
	{Pushed, "Count", []string{Stream, Live}, "frames handed to the gateway, answers among them"},
	{Unsent, "Count", []string{Stream, Live}, "frames that the gateway did not take; their sockets are closed"},
	{Gone, "Count", []string{Stream, Live}, "frames for sockets that are closed"},
}
