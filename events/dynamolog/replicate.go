package dynamolog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"golang.org/x/sync/errgroup"

	"parley/events"
)

// replicators is how many events of a batch are put side by side: DynamoDB Local takes no more
// from more.
const replicators = 8

// Replicate puts events that other regions have accepted, in any order, as a global table does
// by itself. It is for where there is none: on AWS nothing calls it. For each event:
//   - not there yet: it is put, with its Region.
//   - there in the very same stored form: nothing is written, so the stream shows nothing.
//   - there in another form, and be it only of another region: the greater one stays, by Region,
//     then type, actor and data. A global table would keep the last one written. When that was
//     nobody can say here: an item has no time of its writing, and the stream of DynamoDB Local
//     tells times no finer than a minute. What matters is that it is the same one in every region.
//
// So all tables that were given the same events, in any order and any number of times, end up
// equal. After an error some of the events may be stored; replicating them again is always safe.
// Errors are those of [Log.Append] but ErrConflict.
func (l *Log) Replicate(ctx context.Context, batch []events.Event) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(replicators)
	for _, e := range batch {
		group.Go(func() error { return l.replicate(ctx, e) })
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("replicate events: %w", err)
	}
	return nil
}

func (l *Log) replicate(ctx context.Context, e events.Event) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := e.Stream.Validate(); err != nil {
		return err
	}
	item := itemOf(e)
	for put := l.insert(item); ; {
		_, err := l.client.PutItem(ctx, put)
		var taken *types.ConditionalCheckFailedException
		switch {
		case err == nil:
			return nil
		case !errors.As(err, &taken):
			return writeError(ctx, err)
		case !wins(e, taken.Item):
			return nil
		}
		// What is there only ever grows greater, so this ends.
		put = l.replace(taken.Item, item)
	}
}

// wins reports whether an event is to replace the item that has its id.
func wins(e events.Event, item map[string]types.AttributeValue) bool {
	there, err := eventOf(item)
	if err != nil { // any event is better
		return true
	}
	a, b := events.Encode(e), events.Encode(there)
	return cmp.Or(
		strings.Compare(a.Region, b.Region),
		strings.Compare(a.Type, b.Type),
		strings.Compare(a.Actor, b.Actor),
		strings.Compare(a.Data, b.Data),
	) > 0
}

// replace puts an item in the place of another, if that is still what it was: else a racing
// writer's greater one could be undone.
func (l *Log) replace(old, item map[string]types.AttributeValue) *dynamodb.PutItemInput {
	names, values := map[string]string{}, map[string]types.AttributeValue{}
	var unchanged []string
	for _, name := range []string{attrRegion, attrType, attrActor, attrData} {
		names["#"+name] = name
		if value, ok := old[name]; ok {
			values[":"+name] = value
			unchanged = append(unchanged, fmt.Sprintf("#%s = :%s", name, name))
		} else {
			unchanged = append(unchanged, fmt.Sprintf("attribute_not_exists(#%s)", name))
		}
	}
	put := l.insert(item)
	put.ConditionExpression = aws.String(strings.Join(unchanged, " AND "))
	put.ExpressionAttributeNames = names
	if len(values) > 0 {
		put.ExpressionAttributeValues = values
	}
	return put
}
