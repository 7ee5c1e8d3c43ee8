package dynamodb_test

import (
	"errors"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"golang.org/x/sync/errgroup"

	ddb "parley/events/dynamodb"
	"parley/events/dynamolocal/dynamotest"
)

// Concurrent calls create it once, all succeed, and its items stay.
func TestCreate(t *testing.T) {
	db := ddb.NewClient(dynamotest.Open(t).Config("here"))
	item := map[string]types.AttributeValue{"room": &types.AttributeValueMemberS{Value: "a"}, "at": &types.AttributeValueMemberS{Value: "1"}}
	for range 2 {
		var group errgroup.Group
		for range 4 {
			group.Go(func() error {
				made, err := ddb.Create(t.Context(), db, ddb.Keyed("rooms", "room", "at"))
				if err == nil && made.TableStatus != types.TableStatusActive {
					t.Errorf("it is %s", made.TableStatus)
				}
				return err
			})
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
		if _, err := db.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String("rooms"), Item: item, ConditionExpression: aws.String("attribute_not_exists(room)")}); err != nil && !errors.As(err, new(*types.ConditionalCheckFailedException)) {
			t.Fatal(err)
		}
	}
	out, err := db.Scan(t.Context(), &dynamodb.ScanInput{TableName: aws.String("rooms")})
	if err != nil || out.Count != 1 {
		t.Errorf("there are %d items, %v", out.Count, err)
	}
}

func TestCreateRefusesAnother(t *testing.T) {
	db := ddb.NewClient(dynamotest.Open(t).Config("here"))
	for name, change := range map[string]func(*dynamodb.CreateTableInput){
		"no_sort_key": func(in *dynamodb.CreateTableInput) {
			in.KeySchema, in.AttributeDefinitions = in.KeySchema[:1], in.AttributeDefinitions[:1]
		},
		"another_name": func(in *dynamodb.CreateTableInput) { *in.AttributeDefinitions[1].AttributeName = "when" },
		"another_type": func(in *dynamodb.CreateTableInput) {
			in.AttributeDefinitions[1].AttributeType = types.ScalarAttributeTypeB
		},
		"turned_round": func(in *dynamodb.CreateTableInput) {
			in.KeySchema[0].AttributeName, in.KeySchema[1].AttributeName = in.KeySchema[1].AttributeName, in.KeySchema[0].AttributeName
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := ddb.Keyed(name, "room", "at")
			change(in)
			if _, err := db.CreateTable(t.Context(), in); err != nil {
				t.Fatal(err)
			}
			if _, err := ddb.Create(t.Context(), db, ddb.Keyed(name, "room", "at")); !errors.Is(err, ddb.ErrOtherKeys) {
				t.Errorf("error %v, want ErrOtherKeys", err)
			}
		})
	}
}
