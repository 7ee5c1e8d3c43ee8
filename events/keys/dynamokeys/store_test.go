package dynamokeys_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"parley/events/dynamolocal"
	"parley/events/dynamolocal/dynamotest"
	"parley/events/keys"
	"parley/events/keys/dynamokeys"
	"parley/events/keys/keystest"
)

const (
	region = "eu-west-1"
	table  = "keys"
)

func createTable(t testing.TB, place dynamolocal.Endpoint) aws.Config {
	t.Helper()
	cfg := place.Config(region)
	must(t, dynamokeys.CreateTable(t.Context(), cfg, table))
	return cfg
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestStore(t *testing.T) {
	opened := map[keys.Store]aws.Config{}
	open := func(cfg aws.Config) keys.Store {
		s := dynamokeys.New(cfg, table)
		opened[s] = cfg
		return s
	}
	keystest.Run(t,
		func(t *testing.T) keys.Store { return open(createTable(t, dynamotest.Open(t))) },
		func(_ *testing.T, s keys.Store) keys.Store { return open(opened[s]) })
}

// paged makes DynamoDB return one item a page, as it does for items beyond 1 MB.
type paged struct{ client aws.HTTPClient }

func (p paged) Do(r *http.Request) (*http.Response, error) {
	_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	if operation == "Query" || operation == "Scan" {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		body = append([]byte(`{"Limit":1,`), bytes.TrimPrefix(body, []byte("{"))...)
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	}
	return p.client.Do(r)
}

func TestStoreInPages(t *testing.T) {
	keystest.Run(t, func(t *testing.T) keys.Store {
		cfg := createTable(t, dynamotest.Open(t))
		cfg.HTTPClient = paged{cfg.HTTPClient}
		return dynamokeys.New(cfg, table)
	}, nil)
}

// The costs of operations that the package comment and README.md state.
func TestUnits(t *testing.T) {
	var meter dynamolocal.Meter
	s := dynamokeys.New(meter.Watch(createTable(t, dynamotest.Open(t))), table)
	user := strings.Repeat("x", 64)
	wrapped := bytes.Repeat([]byte{1}, 200)
	for _, step := range []struct {
		name        string
		do          func() error
		read, write float64
	}{
		{"Add", func() error { return s.Add(t.Context(), user, keys.Wrapped{ID: keys.ID{1}, Bytes: wrapped}) }, 1, 1},
		{"Load", func() error { _, err := s.Load(t.Context(), user); return err }, 1, 0},
		{"Load of nothing", func() error { _, err := s.Load(t.Context(), "other"); return err }, 1, 0},
		{"Erase", func() error { return s.Erase(t.Context(), user) }, 1, 1}, // and the deletion, which the meter does not count
	} {
		must(t, step.do())
		var read, write float64
		for _, u := range meter.Take() {
			read, write = read+u.Read, write+u.Write
		}
		if read != step.read || write != step.write {
			t.Errorf("%s takes %v read and %v write units, want %v and %v", step.name, read, write, step.read, step.write)
		}
	}
}

// Load fails on an item that another program wrote; Erase deletes it.
func TestDamaged(t *testing.T) {
	cfg := createTable(t, dynamotest.Open(t))
	s := dynamokeys.New(cfg, table)
	for user, it := range map[string]map[string]types.AttributeValue{
		"ada": {"key": &types.AttributeValueMemberS{Value: "no id"}, "wrapped": &types.AttributeValueMemberB{Value: []byte("x")}},
		"bob": {"key": &types.AttributeValueMemberS{Value: keys.ID{1}.String()}, "wrapped": &types.AttributeValueMemberS{Value: "x"}},
	} {
		it["user"] = &types.AttributeValueMemberS{Value: user}
		_, err := dynamodb.NewFromConfig(cfg).PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String(table), Item: it})
		must(t, err)
		if _, err := s.Load(t.Context(), user); err == nil || err.Error() != "load keys: stored item is damaged" {
			t.Errorf("Load: %v", err)
		}
		must(t, s.Erase(t.Context(), user))
		if got, err := s.Load(t.Context(), user); err != nil || !got.Erased || len(got.Wrapped) > 0 {
			t.Errorf("after Erase there are %v, %v", got, err)
		}
	}
}

// A user name that DynamoDB cannot store is rejected, and never stored as another user's.
func TestNoUser(t *testing.T) {
	s := dynamokeys.New(createTable(t, dynamotest.Open(t)), table)
	for _, user := range []string{"", "a\xff"} {
		_, err := s.Load(t.Context(), user)
		for what, err := range map[string]error{"Load": err, "Add": s.Add(t.Context(), user, keys.Wrapped{}), "Erase": s.Erase(t.Context(), user)} {
			if err == nil || !strings.HasSuffix(err.Error(), "user name must be UTF-8 and not empty") {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
}

// CreateTable is idempotent, and its errors say which table they are about.
func TestCreateTable(t *testing.T) {
	cfg := createTable(t, dynamotest.Open(t))
	must(t, dynamokeys.CreateTable(t.Context(), cfg, table))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := dynamokeys.CreateTable(ctx, cfg, table); err == nil || !strings.HasPrefix(err.Error(), "create the table of keys: ") {
		t.Errorf("CreateTable: %v", err)
	}
}

// ids returns the first bytes of the ids of a user's keys.
func ids(t *testing.T, s keys.Store, user string) (ids []byte, erased bool) {
	t.Helper()
	got, err := s.Load(t.Context(), user)
	must(t, err)
	for _, k := range got.Wrapped {
		ids = append(ids, k.ID[0])
	}
	return slices.Clip(ids), got.Erased
}
