package dynamoview_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"parley/events/dynamolocal"
	"parley/events/dynamolocal/dynamotest"
	"parley/projections"
	"parley/projections/dynamoview"
	"parley/projections/viewtest"
)

const (
	region = "eu-west-1"
	table  = "views"
)

// createTable makes the table of views in a test's place and returns what clients of it are made
// of.
func createTable(t testing.TB, place dynamolocal.Endpoint) aws.Config {
	t.Helper()
	cfg := place.Config(region)
	if err := dynamoview.CreateTable(context.Background(), cfg, table); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestViews(t *testing.T) {
	t.Parallel()
	viewtest.Run(t, driver(t))
}

func TestRebuild(t *testing.T) {
	t.Parallel()
	viewtest.RunRebuild(t, driver(t))
}

func driver(t *testing.T) viewtest.Driver {
	cfg := dynamotest.Open(t).Config(region)
	return viewtest.Driver{Open: func(t testing.TB, dir string) projections.Views {
		name := tableName(dir)
		if err := dynamoview.CreateTable(t.Context(), cfg, name); err != nil {
			t.Fatal(err)
		}
		return dynamoview.New(cfg, name)
	}}
}

// tableName makes the name of a table of the path of a folder: it takes letters, digits and a few
// signs, and up to 255 of them.
func tableName(dir string) string {
	name := []byte(dir)
	for i, c := range name {
		if c == '/' {
			name[i] = '.'
		}
	}
	return string(name[max(0, len(name)-255):])
}

func TestCreateTableTwice(t *testing.T) {
	t.Parallel()
	cfg := createTable(t, dynamotest.Open(t))
	stored := fill(t, dynamoview.New(cfg, table), 1, "body")
	if err := dynamoview.CreateTable(t.Context(), cfg, table); err != nil {
		t.Fatal(err)
	}
	want(t, dynamoview.New(cfg, table), stored...)
}

func TestCreateTableRefusesAnother(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		sort  string
		kind  types.ScalarAttributeType
		wrong string
	}{
		{"no sort key", "", "", "partition (S), not"},
		{"another sort key", "id", types.ScalarAttributeTypeS, "partition (S), id (S), not"},
		{"another type", "sort", types.ScalarAttributeTypeB, "partition (S), sort (B), not"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := dynamotest.Open(t).Config(region)
			in := &dynamodb.CreateTableInput{
				TableName:            aws.String(table),
				BillingMode:          types.BillingModePayPerRequest,
				KeySchema:            []types.KeySchemaElement{{AttributeName: aws.String("partition"), KeyType: types.KeyTypeHash}},
				AttributeDefinitions: []types.AttributeDefinition{{AttributeName: aws.String("partition"), AttributeType: types.ScalarAttributeTypeS}},
			}
			if test.sort != "" {
				in.KeySchema = append(in.KeySchema, types.KeySchemaElement{AttributeName: aws.String(test.sort), KeyType: types.KeyTypeRange})
				in.AttributeDefinitions = append(in.AttributeDefinitions, types.AttributeDefinition{AttributeName: aws.String(test.sort), AttributeType: test.kind})
			}
			if _, err := dynamodb.NewFromConfig(cfg).CreateTable(t.Context(), in); err != nil {
				t.Fatal(err)
			}
			if err := dynamoview.CreateTable(t.Context(), cfg, table); err == nil || !strings.Contains(err.Error(), test.wrong) {
				t.Fatalf("error %v, want one with %q", err, test.wrong)
			}
		})
	}
}

// Keys that DynamoDB does not hold are refused, and none is turned into another.
func TestKeysThatCannotBe(t *testing.T) {
	t.Parallel()
	v := dynamoview.New(createTable(t, dynamotest.Open(t)), table)
	fine := projections.View{Key: projections.Key{Partition: "p", Sort: "s"}}
	for _, key := range []projections.Key{{Partition: "", Sort: "s"}, {Partition: "p", Sort: ""}, {Partition: "p\xff", Sort: "s"}, {Partition: "p", Sort: "\xff"}} {
		_, errGet := v.Get(t.Context(), fine.Key, key)
		errSave := v.Save(t.Context(), fine, projections.View{Key: key})
		var errQuery error
		if key.Sort == "s" {
			_, errQuery = v.Query(t.Context(), key.Partition, projections.Range{Limit: 1})
		} else if key.Sort != "" {
			_, errQuery = v.Query(t.Context(), key.Partition, projections.Range{From: key.Sort, Limit: 1})
		} else {
			errQuery = errSave
		}
		var conflict *projections.ConflictError
		for _, err := range []error{errGet, errSave, errQuery} {
			if err == nil || errors.As(err, &conflict) {
				t.Errorf("key %q: error %v, want one that is no conflict", key, err)
			}
		}
	}
	want(t, v, fine) // it was not saved either
}

// An item that no Save wrote is an error, not a view.
func TestDamagedItem(t *testing.T) {
	t.Parallel()
	cfg := createTable(t, dynamotest.Open(t))
	v := dynamoview.New(cfg, table)
	key := projections.Key{Partition: "timeline/secret-room", Sort: "secret-id"}
	for name, version := range map[string]types.AttributeValue{
		"no version": nil, "a text": &types.AttributeValueMemberS{Value: "1"}, "zero": &types.AttributeValueMemberN{Value: "0"},
		"a fraction": &types.AttributeValueMemberN{Value: "1.5"},
	} {
		item := map[string]types.AttributeValue{
			"partition": &types.AttributeValueMemberS{Value: key.Partition}, "sort": &types.AttributeValueMemberS{Value: key.Sort},
			"body": &types.AttributeValueMemberB{Value: []byte("body")},
		}
		if version != nil {
			item["version"] = version
		}
		if _, err := dynamodb.NewFromConfig(cfg).PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String(table), Item: item}); err != nil {
			t.Fatal(err)
		}
		_, errGet := v.Get(t.Context(), key)
		_, errMany := v.Get(t.Context(), key, projections.Key{Partition: "p", Sort: "s"})
		_, errQuery := v.Query(t.Context(), key.Partition, projections.Range{Limit: 1})
		for _, err := range []error{errGet, errMany, errQuery} {
			if err == nil || !strings.HasSuffix(err.Error(), " views: stored item is damaged") {
				t.Errorf("%s: error %v", name, err)
			}
		}
	}
}

// Keys that were not processed are asked for again, whatever a batch leaves of them.
func TestGetAsksAgain(t *testing.T) {
	t.Parallel()
	bad, good := spoiled(t, "BatchGetItem", dynamotest.Part, always)
	stored := fill(t, good, 250, "body")
	for _, i := range []int{3, 100, 249} {
		missing := projections.View{Key: projections.Key{Partition: "timeline/secret-room", Sort: fmt.Sprint("missing ", i)}}
		stored = slices.Insert(stored, i, missing, stored[0])
	}
	got, err := bad.Get(t.Context(), keysOf(stored)...)
	if err != nil {
		t.Fatal(err)
	}
	wantSame(t, got, stored)
}

// An answer ends at 16 MB.
func TestGetMuch(t *testing.T) {
	t.Parallel()
	_, good := spoiled(t, "", dynamotest.None, 0)
	stored := fill(t, good, 60, strings.Repeat("0123456789", 30_000))
	want(t, good, stored...)
}

// A table that leaves all keys unprocessed, again and again, is under load.
func TestGetGetsNowhere(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		var ask struct{ RequestItems json.RawMessage }
		if err := json.NewDecoder(r.Body).Decode(&ask); err != nil {
			t.Error(err)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"UnprocessedKeys": ask.RequestItems}) // the caller waits for it
	}))
	defer server.Close()
	v := views(dynamolocal.Endpoint{URL: server.URL, Key: dynamolocal.NewKey()})
	keys := []projections.Key{{Partition: "p", Sort: "secret"}, {Partition: "p", Sort: "other"}}
	_, err := v.Get(t.Context(), keys...)
	if !errors.Is(err, projections.ErrUnavailable) || strings.Contains(err.Error(), "secret") {
		t.Errorf("Get: %v, want %v", err, projections.ErrUnavailable)
	}
	if n := calls.Load(); n != 6 {
		t.Errorf("it asked %d times, want 6", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := v.Get(ctx, keys...); !errors.Is(err, context.Canceled) {
		t.Errorf("Get: %v, want %v", err, context.Canceled)
	}
}

// The number of calls that one Save makes side by side is bounded, and so is that of a Get.
func TestParallel(t *testing.T) {
	t.Parallel()
	place := dynamotest.Open(t)
	cfg := createTable(t, place)
	client := cfg.HTTPClient
	var now, most atomic.Int64
	cfg.HTTPClient = doer(func(r *http.Request) (*http.Response, error) {
		for n := now.Add(1); ; {
			if m := most.Load(); n <= m || most.CompareAndSwap(m, n) {
				break
			}
		}
		defer now.Add(-1)
		return client.Do(r)
	})
	v := dynamoview.New(cfg, table)
	stored := fill(t, v, 1000, "body")
	if n := most.Swap(0); n > 32 {
		t.Errorf("Save makes %d calls side by side", n)
	}
	want(t, v, stored...)
	if n := most.Load(); n > 8 {
		t.Errorf("Get makes %d calls side by side", n)
	}
}

type doer func(*http.Request) (*http.Response, error)

func (d doer) Do(r *http.Request) (*http.Response, error) { return d(r) }

var _ aws.HTTPClient = doer(nil)
