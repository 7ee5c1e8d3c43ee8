package dynamolocal_test

import (
	"context"
	"maps"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"parley/events/dynamolocal"
	"parley/events/dynamolocal/dynamotest"
)

// The prices are those that Amazon documents: a write unit for each begun KB, a read unit for each begun
// 4 KB, half of it if the read is not strongly consistent, and never 0.
func TestMeter(t *testing.T) {
	var meter dynamolocal.Meter
	cfg := dynamotest.Open(t).Config("here")
	table := metered{dynamodb.NewFromConfig(meter.Watch(cfg)), aws.String("things")}
	table.create(t)
	for _, tt := range []struct {
		name string
		do   func(ctx context.Context) error
		want dynamolocal.Units
	}{
		{"PutItem", table.put("a", 100, ""), dynamolocal.Units{Calls: 1, Write: 1}},
		{"PutItem", table.put("b", 1100, ""), dynamolocal.Units{Calls: 1, Write: 2}},
		{"PutItem", table.put("b", 5000, "attribute_not_exists(id)"), dynamolocal.Units{Calls: 1, Write: 1}}, // at least
		{"PutItem", table.put("c", 5000, "attribute_not_exists(id)"), dynamolocal.Units{Calls: 1, Write: 5}},
		{"GetItem", table.get("a", true), dynamolocal.Units{Calls: 1, Read: 1}},
		{"GetItem", table.get("a", false), dynamolocal.Units{Calls: 1, Read: 0.5}},
		{"GetItem", table.get("c", true), dynamolocal.Units{Calls: 1, Read: 2}},
		{"GetItem", table.get("none", true), dynamolocal.Units{Calls: 1, Read: 1}},
		{"GetItem", table.get("none", false), dynamolocal.Units{Calls: 1, Read: 0.5}},
		{"BatchGetItem", table.batch(true, "a", "b", "c"), dynamolocal.Units{Calls: 1, Read: 4}},
		{"BatchGetItem", table.batch(true, "a", "none", "never"), dynamolocal.Units{Calls: 1, Read: 3}},
		{"BatchGetItem", table.batch(false, "none", "never"), dynamolocal.Units{Calls: 1, Read: 1}},
		{"Query", table.query("c"), dynamolocal.Units{Calls: 1, Read: 2}},
		{"Query", table.query("none"), dynamolocal.Units{Calls: 1, Read: 1}},
		{"Scan", table.scan(), dynamolocal.Units{Calls: 1, Read: 1}}, // 6 KB at half the price
	} {
		meter.Take()
		err := tt.do(t.Context())
		got := meter.Take()
		want := map[dynamolocal.Use]dynamolocal.Units{{Table: "things", Operation: tt.name}: tt.want}
		if !maps.Equal(got, want) {
			t.Errorf("%s costs %v, want %v (error: %v)", tt.name, got, want, err)
		}
	}
}

type metered struct {
	db   *dynamodb.Client
	name *string
}

func (m metered) create(t *testing.T) {
	t.Helper()
	_, err := m.db.CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName:            m.name,
		BillingMode:          types.BillingModePayPerRequest,
		KeySchema:            []types.KeySchemaElement{{AttributeName: aws.String("id"), KeyType: types.KeyTypeHash}},
		AttributeDefinitions: []types.AttributeDefinition{{AttributeName: aws.String("id"), AttributeType: types.ScalarAttributeTypeS}},
	})
	if err != nil {
		t.Fatal(err)
	}
}

func id(name string) map[string]types.AttributeValue {
	return map[string]types.AttributeValue{"id": &types.AttributeValueMemberS{Value: name}}
}

func (m metered) put(name string, size int, condition string) func(context.Context) error {
	in := &dynamodb.PutItemInput{TableName: m.name, Item: id(name)}
	in.Item["x"] = &types.AttributeValueMemberS{Value: strings.Repeat("x", size)}
	if condition != "" {
		in.ConditionExpression = aws.String(condition)
	}
	return func(ctx context.Context) error {
		_, err := m.db.PutItem(ctx, in)
		return err
	}
}

func (m metered) get(name string, consistent bool) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := m.db.GetItem(ctx, &dynamodb.GetItemInput{TableName: m.name, Key: id(name), ConsistentRead: aws.Bool(consistent)})
		return err
	}
}

func (m metered) batch(consistent bool, names ...string) func(context.Context) error {
	ask := types.KeysAndAttributes{ConsistentRead: aws.Bool(consistent)}
	for _, name := range names {
		ask.Keys = append(ask.Keys, id(name))
	}
	return func(ctx context.Context) error {
		_, err := m.db.BatchGetItem(ctx, &dynamodb.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{*m.name: ask}})
		return err
	}
}

func (m metered) query(name string) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := m.db.Query(ctx, &dynamodb.QueryInput{
			TableName: m.name, ConsistentRead: aws.Bool(true), KeyConditionExpression: aws.String("id = :id"),
			ExpressionAttributeValues: map[string]types.AttributeValue{":id": &types.AttributeValueMemberS{Value: name}},
		})
		return err
	}
}

func (m metered) scan() func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := m.db.Scan(ctx, &dynamodb.ScanInput{TableName: m.name})
		return err
	}
}

// Watch does not change the config it is given.
func TestMeterLeavesTheConfigAlone(t *testing.T) {
	var meter dynamolocal.Meter
	cfg := dynamotest.Open(t).Config("here")
	meter.Watch(cfg)
	table := metered{dynamodb.NewFromConfig(cfg), aws.String("things")}
	table.create(t)
	if err := table.put("a", 1, "")(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := meter.Take(); len(got) > 0 {
		t.Errorf("the meter counted %v", got)
	}
}
