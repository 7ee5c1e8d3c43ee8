package main

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams/types"

	"parley/infra/lambda/config"
)

// streamReader takes the records out of the event table's stream and puts them in the form in
// which Lambda's event source mapping hands them to a function.
type streamReader struct {
	t        testing.TB
	db       *dynamodb.Client
	streams  *dynamodbstreams.Client
	arn      string
	iterator *string // of the one shard that DynamoDB Local has
	inserted int     // how many items were seen to be inserted
}

// lambdaRecord is a record as Lambda writes it.
type lambdaRecord struct {
	EventID        string `json:"eventID"`
	EventName      string `json:"eventName"`
	EventVersion   string `json:"eventVersion"`
	EventSource    string `json:"eventSource"`
	AWSRegion      string `json:"awsRegion"`
	EventSourceARN string `json:"eventSourceARN"`
	DynamoDB       struct {
		ApproximateCreationDateTime float64
		Keys                        map[string]any
		NewImage                    map[string]any `json:",omitempty"`
		SequenceNumber              string
		SizeBytes                   int64
		StreamViewType              string
	} `json:"dynamodb"`
}

func newStreamReader(t testing.TB, cfg aws.Config) *streamReader {
	t.Helper()
	r := &streamReader{t: t, db: dynamodb.NewFromConfig(cfg), streams: dynamodbstreams.NewFromConfig(cfg)}
	table, err := r.db.DescribeTable(t.Context(), &dynamodb.DescribeTableInput{TableName: aws.String(eventsTable)})
	if err != nil {
		t.Fatal(err)
	}
	r.arn = *table.Table.LatestStreamArn
	r.begin()
	return r
}

// begin goes to the beginning of the stream.
func (r *streamReader) begin() {
	r.t.Helper()
	stream, err := r.streams.DescribeStream(r.t.Context(), &dynamodbstreams.DescribeStreamInput{StreamArn: &r.arn})
	if err != nil || len(stream.StreamDescription.Shards) != 1 {
		r.t.Fatalf("the stream is not of one shard, or: %v", err)
	}
	iterator, err := r.streams.GetShardIterator(r.t.Context(), &dynamodbstreams.GetShardIteratorInput{
		StreamArn: &r.arn, ShardId: stream.StreamDescription.Shards[0].ShardId, ShardIteratorType: types.ShardIteratorTypeTrimHorizon,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.iterator = iterator.ShardIterator
}

// all returns the new records, once those of all items in the table and so many others have come.
func (r *streamReader) all(others int) []lambdaRecord {
	r.t.Helper()
	count, err := r.db.Scan(r.t.Context(), &dynamodb.ScanInput{
		TableName: aws.String(eventsTable), Select: dbtypes.SelectCount, ConsistentRead: aws.Bool(true),
	})
	if err != nil || count.LastEvaluatedKey != nil {
		r.t.Fatalf("count the items: %v", err)
	}
	var found []lambdaRecord
	for deadline := time.Now().Add(20 * time.Second); ; {
		found = append(found, r.next()...)
		inserted := 0
		for _, record := range found {
			if record.EventName == "INSERT" {
				inserted++
			}
		}
		if r.inserted+inserted >= int(count.Count) && len(found)-inserted >= others {
			r.inserted += inserted
			return found
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("of %d items the records of %d have come", count.Count, r.inserted+inserted)
		}
	}
}

func (r *streamReader) next() []lambdaRecord {
	r.t.Helper()
	got, err := r.streams.GetRecords(r.t.Context(), &dynamodbstreams.GetRecordsInput{ShardIterator: r.iterator})
	if errors.As(err, new(*types.TrimmedDataAccessException)) {
		// Of an empty stream DynamoDB Local gives an iterator that is too old, once another table
		// was written to before this one was.
		r.begin()
		return nil
	}
	if err != nil {
		r.t.Fatal(err)
	}
	r.iterator = got.NextShardIterator
	records := make([]lambdaRecord, len(got.Records))
	for i, record := range got.Records {
		records[i] = r.asLambda(record)
	}
	return records
}

func (r *streamReader) asLambda(record types.Record) lambdaRecord {
	out := lambdaRecord{
		EventID: *record.EventID, EventName: string(record.EventName), EventVersion: "1.1",
		EventSource: "aws:dynamodb", AWSRegion: inRegion, EventSourceARN: r.arn,
	}
	out.DynamoDB.ApproximateCreationDateTime = float64(record.Dynamodb.ApproximateCreationDateTime.Unix())
	out.DynamoDB.Keys = imageJSON(record.Dynamodb.Keys)
	out.DynamoDB.NewImage = imageJSON(record.Dynamodb.NewImage)
	out.DynamoDB.SequenceNumber = *record.Dynamodb.SequenceNumber
	out.DynamoDB.SizeBytes = *record.Dynamodb.SizeBytes
	out.DynamoDB.StreamViewType = string(record.Dynamodb.StreamViewType)
	return out
}

func imageJSON(image map[string]types.AttributeValue) map[string]any {
	out := map[string]any{}
	for name, value := range image {
		out[name] = valueJSON(value)
	}
	return out
}

// valueJSON is a value as DynamoDB's JSON has it.
func valueJSON(value types.AttributeValue) any {
	switch v := value.(type) {
	case *types.AttributeValueMemberS:
		return map[string]any{"S": v.Value}
	case *types.AttributeValueMemberN:
		return map[string]any{"N": v.Value}
	case *types.AttributeValueMemberB:
		return map[string]any{"B": v.Value}
	case *types.AttributeValueMemberBOOL:
		return map[string]any{"BOOL": v.Value}
	case *types.AttributeValueMemberNULL:
		return map[string]any{"NULL": v.Value}
	case *types.AttributeValueMemberSS:
		return map[string]any{"SS": v.Value}
	case *types.AttributeValueMemberM:
		return map[string]any{"M": imageJSON(v.Value)}
	case *types.AttributeValueMemberL:
		list := []any{}
		for _, element := range v.Value {
			list = append(list, valueJSON(element))
		}
		return map[string]any{"L": list}
	default:
		panic("a kind of value that no test has put there")
	}
}

// payloadOf is what Lambda invokes the stream function with.
func payloadOf(t testing.TB, records []lambdaRecord) []byte {
	t.Helper()
	text, err := json.Marshal(map[string]any{"Records": records})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// handle invokes the stream function with a batch and returns the records that must come again,
// as Lambda's mapping would take the answer: from the one named on.
func (c *cloud) handle(batch []lambdaRecord) []lambdaRecord {
	c.t.Helper()
	text, err := c.functions[config.Stream].invoke(payloadOf(c.t, batch))
	if err != nil {
		c.t.Fatal(err)
	}
	return failedOf(c.t, text, batch)
}

func failedOf(t testing.TB, text []byte, batch []lambdaRecord) []lambdaRecord {
	t.Helper()
	var answer struct {
		Failures []struct {
			Item string `json:"itemIdentifier"`
		} `json:"batchItemFailures"`
	}
	if err := json.Unmarshal(text, &answer); err != nil || answer.Failures == nil {
		t.Fatalf("the stream function answers %s: %v", text, err)
	}
	if len(answer.Failures) == 0 {
		return nil
	}
	from := slices.IndexFunc(batch, func(r lambdaRecord) bool { return r.DynamoDB.SequenceNumber == answer.Failures[0].Item })
	if from < 0 {
		t.Fatalf("the stream function names a record that was not in the batch: %s", text)
	}
	return batch[from:]
}

// settle hands all new records to the stream function, none of which may fail.
func (c *cloud) settle() {
	c.t.Helper()
	for batch := range slices.Chunk(c.records.all(0), 100) {
		if failed := c.handle(batch); len(failed) > 0 {
			c.t.Fatalf("%d of %d records failed", len(failed), len(batch))
		}
	}
}
