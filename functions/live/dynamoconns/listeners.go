package dynamoconns

import (
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"parley/functions/live"
)

// Listeners implements [live.Connections].
func (c *Connections) Listeners(ctx context.Context, room string) ([]live.Listener, error) {
	var listeners []live.Listener
	err := c.query(ctx, "room/", room, func(it item) error {
		l, err := listenerOf(it)
		listeners = append(listeners, l)
		return err
	})
	if err != nil {
		return nil, failed("list the listeners of a room", err)
	}
	return listeners, nil
}

// Of implements [live.Connections].
func (c *Connections) Of(ctx context.Context, user string) ([]live.Connection, error) {
	conns, err := c.of(ctx, user)
	if err != nil {
		return nil, failed("list the connections of a user", err)
	}
	return conns, nil
}

func (c *Connections) of(ctx context.Context, user string) ([]live.Connection, error) {
	var keys []item
	err := c.query(ctx, "user/", user, func(it item) error {
		r := &reader{item: it}
		keys = append(keys, connKey(r.text(attrSort)))
		return r.err()
	})
	if err != nil {
		return nil, err
	}
	found, err := c.getAll(ctx, keys)
	if err != nil {
		return nil, err
	}
	var conns []live.Connection
	for _, it := range found {
		conn, err := connOf(strings.TrimPrefix((&reader{item: it}).text(attrPartition), "conn/"), it)
		if err != nil {
			return nil, err
		}
		if conn.User == user {
			conns = append(conns, conn)
		}
	}
	return conns, nil
}

// query calls f with each item of a partition, page after page of 1 MB. There are none if the id
// cannot be one.
func (c *Connections) query(ctx context.Context, kind, id string, f func(item) error) error {
	if checkKeys(id) != nil {
		return ctx.Err()
	}
	pages := dynamodb.NewQueryPaginator(c.db, &dynamodb.QueryInput{
		TableName:                 &c.table,
		ConsistentRead:            aws.Bool(true),
		KeyConditionExpression:    aws.String("#partition = :partition"),
		ExpressionAttributeNames:  map[string]string{"#partition": attrPartition},
		ExpressionAttributeValues: item{":partition": text(kind + id)},
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, it := range page.Items {
			if err := f(it); err != nil {
				return err
			}
		}
	}
	return nil
}
