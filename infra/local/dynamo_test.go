package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"parley/events/dynamolocal"
	"parley/events/dynamolocal/dynamotest"
)

// TestDynamoStartsItself keeps its tables below the data folder, and goes on where it was.
func TestDynamoStartsItself(t *testing.T) {
	t.Parallel()
	if os.Getenv("PARLEY_DYNAMODB") != "local" {
		t.Skip("starts DynamoDB Local: set PARLEY_DYNAMODB=local to allow that (its licence wants you to have an AWS account)")
	}
	set := testSettings(t.TempDir())
	set.store = storeDynamo
	set.port = freePorts(t, 1+len(set.regions))
	s := serve(t, set)
	ada := s.at(1, "ada")
	room := ada.create("Hello")
	for range 20 {
		ada.post(room, "here")
	}
	s.agree(room, "ada", 20)
	s.halt()
	s = serve(t, set)
	ada.post(room, "again")
	s.agree(room, "ada", 21)
	s.cluster.options.storage.(*dynamoStorage).server.Close() // as if it had crashed
	ada.soon("POST", "/v1/rooms/"+room+"/messages", map[string]string{"text": "after a crash of DynamoDB Local"})
	if !eventually(30*time.Second, func() bool { status, _, _ := ada.try("GET", "/health", nil); return status == 200 }) {
		t.Error("the region stays down after a crash of DynamoDB Local")
	}
	s.agree(room, "ada", 22)
	s.halt()

	set.store = storePebble
	if _, _, err := open(t.Context(), set, quiet, io.Discard); err == nil || !strings.Contains(err.Error(), "made with -store dynamodb") {
		t.Errorf("the data of another store: %v", err)
	}
}

// TestOtherEventTable refuses views that were made from a table that is no longer there.
func TestOtherEventTable(t *testing.T) {
	t.Parallel()
	place := dynamotest.Open(t)
	set := testSettings(t.TempDir())
	set.store, set.endpoint, set.key = storeDynamo, place.URL, place.Key
	s := serve(t, set)
	s.at(1, "ada").create("Hello")
	s.halt()
	dropTable(t, place, "two", "parley-two-events")
	s = serve(t, set)
	if _, _, text := s.at(2, "ada").try("GET", "/health", nil); !strings.Contains(string(text), "delete the table of views") {
		t.Errorf("views of another table: %s", text)
	}
	dropTable(t, place, "two", "parley-two-views")
	if !eventually(time.Minute, func() bool {
		_, _, text := s.at(2, "ada").try("GET", "/v1/rooms", nil)
		return strings.Contains(string(text), "Hello")
	}) {
		t.Error("the others have not filled the region again")
	}
	if _, err := os.Stat(filepath.Join(set.data, "dynamodb")); err == nil {
		t.Error("an endpoint was given and a folder for tables was made")
	}
}

// TestNoDynamo says what is wrong where nothing answers.
func TestNoDynamo(t *testing.T) {
	set := testSettings(t.TempDir())
	set.store, set.endpoint = storeDynamo, "http://127.0.0.1:1"
	_, _, err := open(t.Context(), set, quiet, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "http://127.0.0.1:1") {
		t.Errorf("with no DynamoDB: %v", err)
	}
}

func dropTable(t *testing.T, place dynamolocal.Endpoint, region, table string) {
	t.Helper()
	place.Client = dynamolocal.NewClient()
	defer place.Client.CloseIdleConnections()
	_, err := dynamodb.NewFromConfig(place.Config(region)).DeleteTable(t.Context(), &dynamodb.DeleteTableInput{TableName: &table})
	if err != nil {
		t.Fatal(err)
	}
}
