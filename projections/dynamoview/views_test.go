package dynamoview_test

import (
	"context"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"parley/events/dynamolocal"
	"parley/events/dynamolocal/dynamotest"
	"parley/projections"
	"parley/projections/dynamoview"
	"parley/projections/viewtest"
)

const (
	region = "eu-west-1"
	table  = "views"
)

// createTable makes the table of views in a test's place and returns what clients of it are made
// of.
func createTable(t testing.TB, place dynamolocal.Endpoint) aws.Config {
	t.Helper()
	cfg := place.Config(region)
	if err := dynamoview.CreateTable(context.Background(), cfg, table); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestViews(t *testing.T) {
	viewtest.Run(t, driver(t))
}

func TestRebuild(t *testing.T) { viewtest.RunRebuild(t, driver(t)) }

func driver(t *testing.T) viewtest.Driver {
	cfg := dynamotest.Open(t).Config(region)
	return viewtest.Driver{Open: func(t testing.TB, dir string) projections.Views {
		name := tableName(dir)
		if err := dynamoview.CreateTable(t.Context(), cfg, name); err != nil {
			t.Fatal(err)
		}
		return dynamoview.New(cfg, name)
	}}
}

// tableName makes the name of a table of the path of a folder: it takes letters, digits and a few
// signs, and up to 255 of them.
func tableName(dir string) string {
	name := []byte(dir)
	for i, c := range name {
		if c == '/' {
			name[i] = '.'
		}
	}
	return string(name[max(0, len(name)-255):])
}
