package dynamolog

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"parley/events"
)

// textual is DynamoDB's JSON of an item.
func textual(t testing.TB, item map[string]types.AttributeValue) string {
	t.Helper()
	image := map[string]map[string]string{}
	for name, value := range item {
		switch v := value.(type) {
		case *types.AttributeValueMemberS:
			image[name] = map[string]string{"S": v.Value}
		case *types.AttributeValueMemberB:
			image[name] = map[string]string{"B": base64.StdEncoding.EncodeToString(v.Value)}
		default:
			t.Fatalf("attribute %s is a %T", name, value)
		}
	}
	text, err := json.Marshal(image)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// lambdaRecord is a record as Lambda gets it, with all that comes along.
func lambdaRecord(kind string, sequence int, image string) string {
	return fmt.Sprintf(`{
		"eventID": "c4ca4238a0b923820dcc509a6f75849b", "eventName": %q, "eventVersion": "1.1", "eventSource": "aws:dynamodb",
		"awsRegion": "us-east-1",
		"dynamodb": {
			"ApproximateCreationDateTime": 1795000000.0,
			"Keys": {"stream": {"S": "room/01JABCDEFGHJKMNPQRSTVWXYZ0"}, "id": {"S": "01JABCDEFGHJKMNPQRSTVWXYZ1"}},
			"NewImage": %s, "SequenceNumber": "%d00000000005391461882", "SizeBytes": 187, "StreamViewType": "NEW_IMAGE"
		},
		"eventSourceARN": "arn:aws:dynamodb:us-east-1:123456789012:table/events/stream/2026-11-01T00:00:00.000"
	}`, kind, image, sequence)
}

func payload(records ...string) []byte {
	return []byte(`{"Records": [` + strings.Join(records, ",") + `]}`)
}

const image = `{"stream": {"S": "room/01JABCDEFGHJKMNPQRSTVWXYZ0"}, "id": {"S": "01JABCDEFGHJKMNPQRSTVWXYZ1"},
	"type": {"S": "message.posted/1"}, "actor": {"S": "ada"}, "region": {"S": "here"}, "data": {"S": "{\"text\":\"hello\"}"}}`

func TestParseRecords(t *testing.T) {
	e := newMessage(t, newRoom(t))
	good := textual(t, itemOf(e))
	former := e
	former.Digest = events.Digest{}
	bare := textual(t, itemOf(former))
	const secret = "the text of a message"
	for _, tt := range []struct {
		name   string
		record string
		err    string // "" is an event
	}{
		{"inserted", lambdaRecord("INSERT", 1, good), ""},
		{"modified by another region that accepted it too", lambdaRecord("MODIFY", 1, strings.Replace(good, `"here"`, `"there"`, 1)), ""},
		{"modified under its id alone", lambdaRecord("MODIFY", 1, bare), "was changed"},
		{"modified in its text", lambdaRecord("MODIFY", 1, strings.Replace(good, "hello", "other", 1)), "was changed"},
		{"with a foreign attribute", lambdaRecord("INSERT", 1, `{"aws:rep:updatetime": {"N": "1"}, `+good[1:]), ""},
		{"removed", lambdaRecord("REMOVE", 1, "null"), "removed"},
		{"removed, with an image", lambdaRecord("REMOVE", 1, good), "removed"},
		{"of an unknown kind", lambdaRecord(secret, 1, good), "unknown kind"},
		{"without an image", lambdaRecord("INSERT", 1, "null"), "id must be a ULID"},
		{"without a stream", lambdaRecord("INSERT", 1, `{"id": {"S": "01JABCDEFGHJKMNPQRSTVWXYZ1"}}`), "stream must"},
		{"with a NUL in its stream", lambdaRecord("INSERT", 1, strings.Replace(image, "room/", `room/\u0000`, 1)), "stream"},
		{"with a number for data", lambdaRecord("INSERT", 1, strings.Replace(image, `"data": {"S"`, `"data": {"N": "1"}, "x": {"S"`, 1)), `"data" of an event is not a string`},
		{"with a list for its id", lambdaRecord("INSERT", 1, strings.Replace(image, `"id": {"S": "01JABCDEFGHJKMNPQRSTVWXYZ1"}`, `"id": {"L": [{"S": "`+secret+`"}]}`, 1)), `"id" of an event is not a string`},
		{"with a number for a text", lambdaRecord("INSERT", 1, strings.Replace(image, `{"S": "ada"}`, `{"S": 1}`, 1)), `"actor" of an event is not a string`},
		{"with a list for a value", lambdaRecord("INSERT", 1, strings.Replace(image, `{"S": "ada"}`, `[]`, 1)), `"actor" of an event is not a string`},
		{"with bad base 64", lambdaRecord("INSERT", 1, strings.Replace(image, `{"S": "ada"}`, `{"B": "?"}`, 1)), `"actor" of an event is not a string`},
	} {
		// Between two good ones: they must not suffer.
		first, last := lambdaRecord("INSERT", 7, good), lambdaRecord("INSERT", 9, good)
		got, err := ParseRecords(payload(first, tt.record, last))
		if err != nil || len(got) != 3 {
			t.Errorf("%s: %d changes, error %v", tt.name, len(got), err)
			continue
		}
		wantEvents(t, []events.Event{got[0].Event, got[2].Event}, []events.Event{e, e})
		if got[0].Sequence != "700000000005391461882" || got[2].Sequence != "900000000005391461882" {
			t.Errorf("%s: sequences %s and %s", tt.name, got[0].Sequence, got[2].Sequence)
		}
		c := got[1]
		if c.Sequence != "100000000005391461882" {
			t.Errorf("%s: sequence %s", tt.name, c.Sequence)
		}
		if tt.err == "" {
			if c.Err != nil || c.Raw != nil {
				t.Errorf("%s: error %v, raw %s", tt.name, c.Err, c.Raw)
			}
			c.Event.Region = e.Region
			wantEvents(t, []events.Event{c.Event}, []events.Event{e})
			continue
		}
		if c.Err == nil || !strings.Contains(c.Err.Error(), tt.err) || strings.Contains(c.Err.Error(), secret) {
			t.Errorf("%s: error %v, want one that says %q", tt.name, c.Err, tt.err)
		}
		if string(c.Raw) != tt.record {
			t.Errorf("%s: raw is\n%s, want\n%s", tt.name, c.Raw, tt.record)
		}
	}
}

// TestParseRecordsUnreadable: an event that this release cannot read is an event all the same, for
// it has a key; its bytes come through whatever they are.
func TestParseRecordsUnreadable(t *testing.T) {
	for _, data := range []string{"", "\x00", "\xff\x00 not even text", `{"cut o`} {
		e, err := events.Decode(events.Stored{
			Stream: string(newRoom(t)), ID: newID(t).String(), Type: "message.sung/1", Actor: "ada", Region: "here", Data: data,
		})
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseRecords(payload(lambdaRecord("INSERT", 1, textual(t, itemOf(e)))))
		if err != nil || got[0].Err != nil {
			t.Fatalf("error %v", err)
		}
		wantEvents(t, []events.Event{got[0].Event}, []events.Event{e})
	}
}

func TestParseRecordsOfSomethingElse(t *testing.T) {
	const secret = "the text of a message"
	for _, text := range []string{
		"", "null", "{}", "[]", `"` + secret + `"`, `{"Records": null}`, `{"Records": {}}`, `{"Records": 1}`,
		`{"detail": {"text": "` + secret + `"}}`, `{"Records": ["` + secret + `"]}`, `{"Records": [null]}`, `{"Records": [{}]}`,
		`{"Records": [{"dynamodb": null}]}`, `{"Records": [{"dynamodb": {"SequenceNumber": 1}}]}`,
		`{"Records": [{"eventSource": "aws:sqs", "body": "` + secret + `"}]}`, string(payload(image))[:80],
	} {
		got, err := ParseRecords([]byte(text))
		if err == nil {
			t.Errorf("%s: %d changes", text, len(got))
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: error %q carries text of the user", text, err)
		}
	}
	if got, err := ParseRecords([]byte(`{"Records": []}`)); err != nil || len(got) != 0 {
		t.Errorf("no records: %d changes, error %v", len(got), err)
	}
}

// What is taken as an event is stored again and read again as itself, from the table and from its
// stream; what is not keeps its record. A record says for itself whether it is one or the other.
func FuzzParseRecords(f *testing.F) {
	f.Add(payload(lambdaRecord("INSERT", 1, image), lambdaRecord("MODIFY", 2, image)))
	f.Add(payload(lambdaRecord("MODIFY", 1, textual(f, itemOf(newMessage(f, newRoom(f)))))))
	f.Add(payload(lambdaRecord("INSERT", 1, strings.Replace(image, `XYZ1"}`, `XYZ1.0123456789ABCDEF"}`, 1))))
	f.Add(payload(lambdaRecord("REMOVE", 1, "null"), lambdaRecord("INSERT", 2, "{}")))
	f.Add(payload(lambdaRecord("INSERT", 1, strings.ReplaceAll(image, `{"S"`, `{"N"`))))
	f.Add(payload(lambdaRecord("INSERT", 1, strings.ReplaceAll(image, "hello", `\u0000`))))
	f.Add(payload(lambdaRecord("INSERT", 1, strings.ReplaceAll(image, "room/", `room/\u0000`))))
	f.Add(payload(lambdaRecord("INSERT", 1, strings.Replace(image, `{"S": "ada"}`, `{"B": "/wA="}`, 1))))
	f.Add(payload(lambdaRecord("INSERT", 1, strings.Replace(image, `{"S": "ada"}`, `{"NULL": true}`, 1))))
	f.Add(payload(lambdaRecord("INSERT", 1, strings.ToLower(image))))
	f.Add(payload(lambdaRecord("INSERT", 1, `{"id": {"S": "01JABCDEFGHJKMNPQRSTVWXYZ1"}}`)))
	f.Add(payload(`{"eventName": "INSERT", "dynamodb": {"SequenceNumber": "1", "NewImage": `+image+`}}`, "null"))
	f.Add([]byte(`{"Records": [], "records": [{}]}`))
	f.Add([]byte("\x00\xff"))
	f.Fuzz(func(t *testing.T, text []byte) {
		changes, err := ParseRecords(text)
		if err != nil {
			return
		}
		for _, c := range changes {
			if (c.Err == nil) != (c.Raw == nil) || c.Sequence == "" {
				t.Fatalf("error %v with raw %q and sequence %q", c.Err, c.Raw, c.Sequence)
			}
			if c.Err != nil {
				if !json.Valid(c.Raw) {
					t.Fatalf("raw is no JSON: %q", c.Raw)
				}
				continue
			}
			item := itemOf(c.Event)
			again, err := eventOf(item)
			if err != nil {
				t.Fatalf("stored, it cannot be read: %v", err)
			}
			wantEvents(t, []events.Event{again}, []events.Event{c.Event})
			if !events.Same(again, c.Event) {
				t.Fatal("stored, it says something else")
			}
			streamed, err := ParseRecords(payload(lambdaRecord("INSERT", 1, textual(t, item))))
			if err != nil || len(streamed) != 1 || streamed[0].Err != nil {
				t.Fatalf("streamed, it cannot be read: %v", err)
			}
			wantEvents(t, []events.Event{streamed[0].Event}, []events.Event{c.Event})
		}
	})
}
