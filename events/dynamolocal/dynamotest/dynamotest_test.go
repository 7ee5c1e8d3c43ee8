package dynamotest_test

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"parley/events/dynamolocal"
	"parley/events/dynamolocal/dynamotest"
)

func TestRegionsAndKeysAreApart(t *testing.T) {
	place := dynamotest.Open(t)
	makeTable(t, client(place, "us-east-1"))
	for name, other := range map[string]*dynamodb.Client{
		"another region": client(place, "eu-west-1"),
		"another key":    client(dynamotest.Open(t), "us-east-1"),
	} {
		if tables := list(t, other); len(tables) != 0 {
			t.Errorf("%s sees %v", name, tables)
		}
	}
	if tables := list(t, client(place, "us-east-1")); len(tables) != 1 {
		t.Errorf("the same place sees %v", tables)
	}
}

func TestTablesOutliveAKill(t *testing.T) {
	o := dynamolocal.Options{Data: t.TempDir()}
	server := dynamotest.Start(t, o)
	makeTable(t, client(dynamolocal.Endpoint{URL: server.URL, Key: "a"}, "here"))
	server.Close()
	if _, err := http.Get(server.URL); err == nil {
		t.Fatal("a closed server answers")
	}
	server = dynamotest.Start(t, o)
	if tables := list(t, client(dynamolocal.Endpoint{URL: server.URL, Key: "a"}, "here")); len(tables) != 1 {
		t.Fatalf("after a kill there are the tables %v", tables)
	}
}

func TestSpoil(t *testing.T) {
	place := dynamotest.Open(t)
	good := client(place, "here")
	makeTable(t, good)
	var fault atomic.Int64
	bad := client(dynamotest.Spoil(t, place, func(dynamotest.Call) dynamotest.Fault { return dynamotest.Fault(fault.Load()) }), "here")
	throttled := new(*types.ProvisionedThroughputExceededException)
	failed := new(*types.InternalServerError)
	for _, tt := range []struct {
		fault  dynamotest.Fault
		as     any
		stored bool
	}{
		{dynamotest.None, nil, true},
		{dynamotest.Throttle, throttled, false},
		{dynamotest.Fail, failed, false},
		{dynamotest.Drop, nil, false},
		{dynamotest.Lose, nil, true},
	} {
		fault.Store(int64(tt.fault))
		id := dynamolocal.NewKey()
		err := put(bad, id)
		if (err == nil) != (tt.fault == dynamotest.None) {
			t.Errorf("fault %d: error %v", tt.fault, err)
		}
		if tt.as != nil && !errors.As(err, tt.as) {
			t.Errorf("fault %d: error %v", tt.fault, err)
		}
		if got := get(t, good, id); (len(got) == 1) != tt.stored {
			t.Errorf("fault %d: stored %v", tt.fault, got)
		}
	}
}

func TestPart(t *testing.T) {
	place := dynamotest.Open(t)
	makeTable(t, client(place, "here"))
	bad := client(dynamotest.Spoil(t, place, func(dynamotest.Call) dynamotest.Fault { return dynamotest.Part }), "here")
	keys := []map[string]types.AttributeValue{key("a"), key("b"), key("c")}
	got, err := bad.BatchGetItem(t.Context(), &dynamodb.BatchGetItemInput{
		RequestItems: map[string]types.KeysAndAttributes{"things": {Keys: keys}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if left := got.UnprocessedKeys["things"].Keys; len(left) != 2 {
		t.Fatalf("of 3 keys %v are left, want 2", left)
	}
}

func client(e dynamolocal.Endpoint, region string) *dynamodb.Client {
	return dynamodb.NewFromConfig(e.Config(region), func(o *dynamodb.Options) { o.RetryMaxAttempts = 1 })
}

func makeTable(t *testing.T, db *dynamodb.Client) {
	t.Helper()
	_, err := db.CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName:            aws.String("things"),
		BillingMode:          types.BillingModePayPerRequest,
		KeySchema:            []types.KeySchemaElement{{AttributeName: aws.String("id"), KeyType: types.KeyTypeHash}},
		AttributeDefinitions: []types.AttributeDefinition{{AttributeName: aws.String("id"), AttributeType: types.ScalarAttributeTypeS}},
	})
	if err != nil {
		t.Fatal(err)
	}
}

func list(t *testing.T, db *dynamodb.Client) []string {
	t.Helper()
	got, err := db.ListTables(t.Context(), &dynamodb.ListTablesInput{})
	if err != nil {
		t.Fatal(err)
	}
	return got.TableNames
}

func key(id string) map[string]types.AttributeValue {
	return map[string]types.AttributeValue{"id": &types.AttributeValueMemberS{Value: id}}
}

func put(db *dynamodb.Client, id string) error {
	_, err := db.PutItem(context.Background(), &dynamodb.PutItemInput{TableName: aws.String("things"), Item: key(id)})
	return err
}

func get(t *testing.T, db *dynamodb.Client, id string) map[string]types.AttributeValue {
	t.Helper()
	got, err := db.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: aws.String("things"), Key: key(id)})
	if err != nil {
		t.Fatal(err)
	}
	return got.Item
}
