package dynamoview

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"golang.org/x/sync/errgroup"

	"parley/projections"
)

// Delete implements [projections.Views]. Each view is deleted by a call of its own, all of them
// side by side. It costs what saving the view costs.
func (v *Views) Delete(ctx context.Context, views ...projections.View) error {
	if err := checkSave(ctx, views); err != nil {
		return fmt.Errorf("delete views: %w", err)
	}
	return v.each(ctx, "delete views", views, v.remove)
}

// each does something to each view under the condition of its version, side by side.
func (v *Views) each(ctx context.Context, what string, views []projections.View, do func(context.Context, projections.View) error) error {
	var mu sync.Mutex
	var conflict projections.ConflictError
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for _, view := range views {
		group.Go(func() error {
			err := do(ctx, view)
			if errors.As(err, new(*types.ConditionalCheckFailedException)) {
				mu.Lock()
				defer mu.Unlock()
				conflict.Keys = append(conflict.Keys, view.Key)
				return nil
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return failed(what, err)
	}
	if len(conflict.Keys) > 0 {
		return &conflict
	}
	return nil
}

// remove deletes one view if its version is the stored one, or there is none.
func (v *Views) remove(ctx context.Context, view projections.View) error {
	_, err := v.db.DeleteItem(ctx, &dynamodb.DeleteItemInput{
		TableName:                 aws.String(v.table),
		Key:                       keyOf(view.Key),
		ConditionExpression:       aws.String("attribute_not_exists(#version) OR #version = :version"),
		ExpressionAttributeNames:  map[string]string{"#version": attrVersion},
		ExpressionAttributeValues: item{":version": number(view.Version)},
	})
	return err
}
