package dynamokeys

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"

	"parley/events/dynamotable"
)

// CreateTable makes the table of keys where it is not there yet, billed by request, and waits until
// it can be used. It fails if there is a table of the name that has other keys. It is for infra/local
// and for tests: on AWS the template makes the table.
func CreateTable(ctx context.Context, cfg aws.Config, table string) error {
	if _, err := dynamotable.Create(ctx, dynamotable.NewClient(cfg), dynamotable.Keyed(table, attrUser, attrKey)); err != nil {
		return fmt.Errorf("create the table of keys: %w", err)
	}
	return nil
}
