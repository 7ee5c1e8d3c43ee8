package dynamoconns

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"parley/events/dynamotable"
)

// transact writes items in one transaction, and tries again where it was held up. It returns the
// reasons if a condition does not hold.
func (c *Connections) transact(ctx context.Context, writes []types.TransactWriteItem) ([]types.CancellationReason, error) {
	for try := 1; ; try++ {
		_, err := c.db.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{TransactItems: writes})
		var cancelled *types.TransactionCanceledException
		if !errors.As(err, &cancelled) {
			return nil, err
		}
		for _, reason := range cancelled.CancellationReasons {
			if aws.ToString(reason.Code) == "ConditionalCheckFailed" {
				return cancelled.CancellationReasons, nil
			}
		}
		if try == dynamotable.Attempts {
			return nil, err
		}
		if err := dynamotable.Pause(ctx, try); err != nil {
			return nil, err
		}
	}
}
