// Package dynamotest gives tests a place in DynamoDB, and spoils their calls to it.
package dynamotest

import (
	"context"
	"os"
	"sync"
	"testing"

	"parley/events/dynamolocal"
)

// shared is the DynamoDB Local that all tests of this process use. It ends with the process.
var shared = sync.OnceValues(func() (*dynamolocal.Server, error) {
	return dynamolocal.Start(context.Background(), dynamolocal.Options{})
})

// Open returns a place in DynamoDB for one test, with no tables. Where nobody has asked for
// DynamoDB the test is skipped.
func Open(t testing.TB) dynamolocal.Endpoint {
	t.Helper()
	url := os.Getenv(dynamolocal.Variable)
	switch url {
	case "":
		t.Skipf("needs DynamoDB Local: set %s=local to fetch and start it (needs npm and Java; its licence wants you to have an AWS account), or to the URL of one that runs", dynamolocal.Variable)
	case "local":
		server, err := shared()
		if err != nil {
			t.Fatalf("%s=local: %v", dynamolocal.Variable, err)
		}
		url = server.URL
	}
	return dynamolocal.Endpoint{URL: url, Key: dynamolocal.NewKey()}
}

// Start returns a DynamoDB Local of the test's own, to be killed, started again or run on
// another clock. It is closed when the test ends. Where nobody has asked for DynamoDB to be
// started the test is skipped.
func Start(t testing.TB, o dynamolocal.Options) *dynamolocal.Server {
	t.Helper()
	if os.Getenv(dynamolocal.Variable) != "local" {
		t.Skipf("needs a DynamoDB Local of its own: set %s=local to fetch and start it (needs npm and Java; its licence wants you to have an AWS account)", dynamolocal.Variable)
	}
	server, err := dynamolocal.Start(t.Context(), o)
	if err != nil {
		t.Fatalf("%s=local: %v", dynamolocal.Variable, err)
	}
	t.Cleanup(server.Close)
	return server
}
