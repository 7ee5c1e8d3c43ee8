package dynamoview_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"parley/events/dynamolocal/dynamotest"
	"parley/projections"
	"parley/projections/dynamoview"
)

func TestCreateTableTwice(t *testing.T) {
	cfg := createTable(t, dynamotest.Open(t))
	stored := fill(t, dynamoview.New(cfg, table), 1, "body")
	if err := dynamoview.CreateTable(t.Context(), cfg, table); err != nil {
		t.Fatal(err)
	}
	want(t, dynamoview.New(cfg, table), stored...)
}

func TestCreateTableRefusesAnother(t *testing.T) {
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
