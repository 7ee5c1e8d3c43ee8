package awstest

import (
	"errors"
	"hash/fnv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams"
	"github.com/aws/aws-sdk-go-v2/service/dynamodbstreams/types"
)

// Stream reads the change stream of a table of DynamoDB Local, in the form in which Lambda's event
// source mapping hands records to a function.
type Stream struct {
	t        testing.TB
	db       *dynamodb.Client
	streams  *dynamodbstreams.Client
	table    string
	arn      string
	iterator *string // of the one open shard that DynamoDB Local has
	inserted int     // how many INSERT records were read
}

// Record is a record as Lambda writes it.
type Record struct {
	EventID        string `json:"eventID"`
	EventName      string `json:"eventName"` // INSERT, MODIFY or REMOVE
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

// Sequence returns the sequence number of a record.
func (r Record) Sequence() string { return r.DynamoDB.SequenceNumber }

// Key returns a key attribute of a record's item, a text.
func (r Record) Key(name string) string {
	value, _ := r.DynamoDB.Keys[name].(map[string]any)
	text, _ := value["S"].(string)
	return text
}

// NewStream reads the stream of a table from its beginning.
func NewStream(t testing.TB, cfg aws.Config, table string) *Stream {
	t.Helper()
	s := &Stream{t: t, db: dynamodb.NewFromConfig(cfg), streams: dynamodbstreams.NewFromConfig(cfg), table: table}
	out, err := s.db.DescribeTable(t.Context(), &dynamodb.DescribeTableInput{TableName: aws.String(table)})
	if err != nil {
		t.Fatal(err)
	}
	s.arn = *out.Table.LatestStreamArn
	s.rewind()
	return s
}

func (s *Stream) rewind() {
	s.t.Helper()
	stream, err := s.streams.DescribeStream(s.t.Context(), &dynamodbstreams.DescribeStreamInput{StreamArn: &s.arn})
	if err != nil || len(stream.StreamDescription.Shards) != 1 {
		s.t.Fatalf("the stream does not have one shard, or: %v", err)
	}
	iterator, err := s.streams.GetShardIterator(s.t.Context(), &dynamodbstreams.GetShardIteratorInput{
		StreamArn: &s.arn, ShardId: stream.StreamDescription.Shards[0].ShardId, ShardIteratorType: types.ShardIteratorTypeTrimHorizon,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.iterator = iterator.ShardIterator
}

// Read returns the new records. It waits until the INSERT records of all items in the table have
// been read, and so many other records in this call.
func (s *Stream) Read(others int) []Record {
	s.t.Helper()
	count, err := s.db.Scan(s.t.Context(), &dynamodb.ScanInput{
		TableName: aws.String(s.table), Select: dbtypes.SelectCount, ConsistentRead: aws.Bool(true),
	})
	if err != nil || count.LastEvaluatedKey != nil {
		s.t.Fatalf("count the items: %v", err)
	}
	var found []Record
	for deadline := time.Now().Add(20 * time.Second); ; {
		inserts := 0
		found = append(found, s.Next()...)
		for _, r := range found {
			if r.EventName == "INSERT" {
				inserts++
			}
		}
		if s.inserted+inserts >= int(count.Count) && len(found)-inserts >= others {
			s.inserted += inserts
			return found
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the stream has the records of %d of %d items", s.inserted+inserts, count.Count)
		}
	}
}

// Next returns the next records, at most 1,000, without waiting for any: for streams that are read while
// the table is written to. They do not count for Read.
func (s *Stream) Next() []Record {
	s.t.Helper()
	got, err := s.streams.GetRecords(s.t.Context(), &dynamodbstreams.GetRecordsInput{ShardIterator: s.iterator})
	if errors.As(err, new(*types.TrimmedDataAccessException)) {
		// Of an empty stream DynamoDB Local gives an iterator that is too old, if another table was
		// written to before this one.
		s.rewind()
		return nil
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.iterator = got.NextShardIterator
	records := make([]Record, len(got.Records))
	for i, in := range got.Records {
		r := &records[i]
		*r = Record{
			EventID: *in.EventID, EventName: string(in.EventName), EventVersion: "1.1",
			EventSource: "aws:dynamodb", AWSRegion: Region, EventSourceARN: s.arn,
		}
		r.DynamoDB.ApproximateCreationDateTime = float64(in.Dynamodb.ApproximateCreationDateTime.Unix())
		r.DynamoDB.Keys = imageJSON(in.Dynamodb.Keys)
		r.DynamoDB.NewImage = imageJSON(in.Dynamodb.NewImage)
		r.DynamoDB.SequenceNumber = *in.Dynamodb.SequenceNumber
		r.DynamoDB.SizeBytes = *in.Dynamodb.SizeBytes
		r.DynamoDB.StreamViewType = string(in.Dynamodb.StreamViewType)
	}
	return records
}

// Shards deals records to n shards by partition key, as DynamoDB would: within a shard the order
// stays, and all records of a partition are in one.
func Shards(records []Record, partition string, n int) [][]Record {
	shards := make([][]Record, n)
	for _, r := range records {
		h := fnv.New32a()
		_, _ = h.Write([]byte(r.Key(partition))) // never fails
		i := int(h.Sum32() % uint32(n))
		shards[i] = append(shards[i], r)
	}
	return shards
}

func imageJSON(image map[string]types.AttributeValue) map[string]any {
	out := map[string]any{}
	for name, value := range image {
		out[name] = valueJSON(value)
	}
	return out
}

// valueJSON returns a value in DynamoDB's JSON.
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
		panic("no test writes a value of this kind")
	}
}
