package dynamolog

import (
	"path/filepath"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"parley/events"
	"parley/events/dynamolocal"
	"parley/events/dynamolocal/dynamotest"
	"parley/events/logtest"
)

func TestLog(t *testing.T) {
	place := dynamotest.Open(t)
	logtest.Run(t, logtest.Driver{Open: func(t testing.TB, dir string) events.Log { return openAt(t, place, dir) }})
}

func TestStream(t *testing.T) {
	place := dynamotest.Open(t)
	logtest.RunStream(t, logtest.StreamDriver{
		Open: func(t testing.TB, dir string) events.Log { return openAt(t, place, dir) },
		Follow: func(_ testing.TB, log events.Log) events.Replica {
			return NewChangeReader(place.Config(region), log.(*Log).table, PollEvery(pollEvery))
		},
		EmitUndecodable: func(t testing.TB, log events.Log) {
			putItem(t, log.(*Log), map[string]types.AttributeValue{
				attrStream: &types.AttributeValueMemberS{Value: "nowhere"}, attrID: &types.AttributeValueMemberS{Value: "x"},
			})
		},
	})
}

// openAt opens a log in a table named after a test's directory.
func openAt(t testing.TB, place dynamolocal.Endpoint, dir string) *Log {
	t.Helper()
	table := filepath.Base(filepath.Dir(dir)) + "-" + filepath.Base(dir) // the end alone is the same in each test
	if err := CreateTable(t.Context(), place.Config(region), table); err != nil {
		t.Fatal(err)
	}
	return New(place.Config(region), table)
}
