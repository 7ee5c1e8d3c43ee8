package main

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"parley/events"
	"parley/infra/lambda/config"
)

// item is an item of texts.
func item(texts map[string]string) map[string]types.AttributeValue {
	out := map[string]types.AttributeValue{}
	for name, text := range texts {
		out[name] = &types.AttributeValueMemberS{Value: text}
	}
	return out
}

// posted is a message's item as the log writes it.
func posted(room, id, actor, text string) map[string]types.AttributeValue {
	return item(map[string]string{
		"stream": "room/" + room, "id": id, "type": "message.posted/1", "actor": actor, "region": inRegion,
		"data": `{"text":"` + text + `"}`,
	})
}

// with changes an attribute of an item.
func with(item map[string]types.AttributeValue, name string, value types.AttributeValue) map[string]types.AttributeValue {
	item[name] = value
	return item
}

func (c *cloud) put(item map[string]types.AttributeValue) {
	c.t.Helper()
	_, err := c.records.db.PutItem(c.t.Context(), &dynamodb.PutItemInput{TableName: aws.String(eventsTable), Item: item})
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *cloud) remove(room, id string) {
	c.t.Helper()
	_, err := c.records.db.DeleteItem(c.t.Context(), &dynamodb.DeleteItemInput{
		TableName: aws.String(eventsTable), Key: item(map[string]string{"stream": "room/" + room, "id": id}),
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

// TestPoison puts into the table what is no event. Each of it is parked, once, and the stream
// goes on: all the rest is handled.
func TestPoison(t *testing.T) {
	c := newCloud(t, nil)
	ada := c.user("ada")
	room := ada.must("POST", "/v1/rooms", `{"name":"Hello"}`).text("id")
	path := "/v1/rooms/" + room
	clock := events.NewClock(time.Now)
	mint := func() string {
		id, err := clock.Mint("ada")
		if err != nil {
			t.Fatal(err)
		}
		return id.String()
	}
	ada.post(path, "before")
	replaced, removed := mint(), mint()
	c.put(posted(room, replaced, "ada", "what was overwritten"))
	c.put(posted(room, removed, "ada", "what was removed"))
	c.put(with(posted(room, mint(), "ada", "with more"), "more", &types.AttributeValueMemberL{Value: []types.AttributeValue{
		&types.AttributeValueMemberB{Value: []byte{0, 1}}, &types.AttributeValueMemberBOOL{Value: true}, &types.AttributeValueMemberSS{Value: []string{"a"}},
	}}))
	s := func(text string) types.AttributeValue { return &types.AttributeValueMemberS{Value: text} }
	for _, poison := range []map[string]types.AttributeValue{
		with(posted(room, mint(), "ada", ""), "data", &types.AttributeValueMemberN{Value: "7"}),
		with(posted(room, mint(), "ada", ""), "data", &types.AttributeValueMemberM{Value: item(map[string]string{"text": "x"})}),
		with(posted(room, mint(), "ada", "x"), "actor", &types.AttributeValueMemberNULL{Value: true}),
		with(posted(room, mint(), "ada", "x"), "data", s("{")),
		with(posted(room, mint(), "ada", "x"), "data", s(`{"text":7}`)),
		with(posted(room, mint(), "ada", "x"), "type", s("message.sung/1")),
		with(posted(room, mint(), "ada", "x"), "type", s("message.posted/99")),
		with(posted(room, mint(), "ada", "x"), "type", s("message.posted")),
		with(posted(room, mint(), "ada", "x"), "stream", s("nonsense")),
		with(posted(room, mint(), "ada", "x"), "id", s("not a ULID")),
		item(map[string]string{"stream": "room/" + room, "id": mint()}),
	} {
		c.put(poison)
	}
	c.remove(room, removed)
	c.put(posted(room, replaced, "ada", "what took its place"))
	ada.post(path, "after")

	const poisonous = 12 // the removal is one
	batch := c.records.all(2)
	for range 2 { // a batch may come again
		if failed := c.handle(batch); len(failed) != 0 {
			t.Fatalf("%d of %d records failed", len(failed), len(batch))
		}
	}
	parked := c.parked()
	for key, p := range parked {
		if p.Stage != "decode" || p.Error == "" || p.Tries != 2 || len(p.Record) < 20 {
			t.Errorf("%s: %+v", key, p)
		}
	}
	if n := c.counted(config.Stream, config.Parked); len(parked) != poisonous || n != 2*poisonous {
		t.Errorf("%d are parked, %d were counted, want %d", len(parked), n, poisonous)
	}
	if got := texts(ada.messages(path + "/messages")); got != "before | what took its place | what was removed | with more | after" {
		t.Errorf("the room is %q", got)
	}
	c.checkFeed(path, 7) // what is replaced arrives again
	if counts := c.bus.counts(); len(counts) != 6 || counts[replaced] != 4 {
		t.Errorf("on the bus are %v", counts)
	}
}
