package dynamolocal

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go/middleware"
)

// Use is an operation on a table.
type Use struct {
	Table     string
	Operation string // "PutItem"
}

// Units are what DynamoDB bills on demand. A write costs a unit for each begun KB. A strongly consistent
// read costs a unit for each begun 4 KB, other reads half of that.
type Units struct {
	Calls int
	Read  float64
	Write float64
}

// Meter sums up the units of all calls of the clients it watches. The zero Meter is ready to use. It is
// safe for concurrent use.
type Meter struct {
	mu  sync.Mutex
	sum map[Use]Units
}

// Watch returns a copy of cfg whose clients request the cost of each call. The figures are DynamoDB's,
// except where DynamoDB Local returns none: a write that fails its condition counts as one unit, the
// minimum, and a read of a missing item as one unit, half of one if it is not strongly consistent.
func (m *Meter) Watch(cfg aws.Config) aws.Config {
	cfg = cfg.Copy()
	cfg.APIOptions = append(slices.Clip(cfg.APIOptions), func(stack *middleware.Stack) error {
		return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("meter", m.call), middleware.After)
	})
	return cfg
}

// Take returns the sums since the last Take and resets them.
func (m *Meter) Take() map[Use]Units {
	m.mu.Lock()
	defer m.mu.Unlock()
	sum := m.sum
	m.sum = nil
	return sum
}

func (m *Meter) add(use Use, u Units) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sum == nil {
		m.sum = map[Use]Units{}
	}
	s := m.sum[use]
	m.sum[use] = Units{s.Calls + u.Calls, s.Read + u.Read, s.Write + u.Write}
}

// call is the middleware: it requests the cost of a call and adds it.
func (m *Meter) call(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
	requestCost(in.Parameters)
	out, metadata, err := next.HandleInitialize(ctx, in)
	operation := awsmiddleware.GetOperationName(ctx)
	if put, ok := in.Parameters.(*dynamodb.PutItemInput); ok && errors.As(err, new(*types.ConditionalCheckFailedException)) {
		m.add(Use{aws.ToString(put.TableName), operation}, Units{Calls: 1, Write: 1})
	}
	if err != nil {
		return out, metadata, err
	}
	for _, c := range costs(in.Parameters, out.Result) {
		u := Units{Calls: 1, Read: aws.ToFloat64(c.CapacityUnits)}
		if operation == "PutItem" || operation == "BatchWriteItem" {
			u.Read, u.Write = 0, u.Read
		}
		m.add(Use{aws.ToString(c.TableName), operation}, u)
	}
	return out, metadata, nil
}

// requestCost makes DynamoDB return the cost of a request.
func requestCost(request any) {
	const total = types.ReturnConsumedCapacityTotal
	switch in := request.(type) {
	case *dynamodb.PutItemInput:
		in.ReturnConsumedCapacity = total
	case *dynamodb.BatchWriteItemInput:
		in.ReturnConsumedCapacity = total
	case *dynamodb.GetItemInput:
		in.ReturnConsumedCapacity = total
	case *dynamodb.BatchGetItemInput:
		in.ReturnConsumedCapacity = total
	case *dynamodb.QueryInput:
		in.ReturnConsumedCapacity = total
	case *dynamodb.ScanInput:
		in.ReturnConsumedCapacity = total
	}
}

// costs returns the cost of a call by table.
func costs(request, answer any) []types.ConsumedCapacity {
	switch out := answer.(type) {
	case *dynamodb.PutItemOutput:
		return atLeast(out.ConsumedCapacity, 0)
	case *dynamodb.BatchWriteItemOutput:
		return out.ConsumedCapacity
	case *dynamodb.GetItemOutput:
		return atLeast(out.ConsumedCapacity, costOfMissing(request.(*dynamodb.GetItemInput).ConsistentRead))
	case *dynamodb.QueryOutput:
		return atLeast(out.ConsumedCapacity, costOfMissing(request.(*dynamodb.QueryInput).ConsistentRead))
	case *dynamodb.ScanOutput:
		return atLeast(out.ConsumedCapacity, costOfMissing(request.(*dynamodb.ScanInput).ConsistentRead))
	case *dynamodb.BatchGetItemOutput:
		all := slices.Clone(out.ConsumedCapacity)
		for i, c := range all {
			table := aws.ToString(c.TableName)
			asked := request.(*dynamodb.BatchGetItemInput).RequestItems[table]
			missing := len(asked.Keys) - len(out.UnprocessedKeys[table].Keys) - len(out.Responses[table])
			all[i].CapacityUnits = aws.Float64(aws.ToFloat64(c.CapacityUnits) + float64(missing)*costOfMissing(asked.ConsistentRead))
		}
		return all
	}
	return nil
}

// atLeast returns the cost of a call to one table, at least a minimum.
func atLeast(c *types.ConsumedCapacity, least float64) []types.ConsumedCapacity {
	if c == nil {
		return nil
	}
	return []types.ConsumedCapacity{{TableName: c.TableName, CapacityUnits: aws.Float64(max(least, aws.ToFloat64(c.CapacityUnits)))}}
}

// costOfMissing returns the cost of reading a missing item.
func costOfMissing(consistent *bool) float64 {
	if aws.ToBool(consistent) {
		return 1
	}
	return 0.5
}
