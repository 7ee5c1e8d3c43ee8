package client_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"

	"parley/events"
	"parley/functions/live/client"
)

// A program that shows what is said, and says hello in each new room.
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	c, err := client.New(client.Options{
		Endpoints: []string{"https://chat.example.com", "https://eu-west-1.chat.example.com"},
		User:      "ada",
		Token:     func(context.Context) (string, error) { return os.Getenv("PARLEY_TOKEN"), nil },
	})
	if err != nil {
		log.Fatal(err)
	}
	err = c.Run(ctx, func(ctx context.Context, u client.Update) error {
		switch u := u.(type) {
		case client.Reset: // forget what you have, and load it again
			rooms, err := c.Rooms(ctx)
			if err != nil {
				return err
			}
			fmt.Println(len(rooms), "rooms")
		case client.Event:
			switch p := u.Payload.(type) {
			case events.MessagePosted:
				fmt.Println(u.Actor+":", p.Text.Text())
			case events.MemberJoined:
				if p.User == c.User() {
					_, err := c.Send(ctx, u.Room, "Hello!")
					return err
				}
			}
		case client.Status:
			log.Println(u.State, u.Region, u.Err)
		}
		return nil
	})
	log.Println(err)
}

// A message is kept before it is sent, so that it is sent once even if the program ends in between.
func ExampleClient_Post() {
	ctx := context.Background()
	c, err := client.New(client.Options{
		Endpoints: []string{"http://127.0.0.1:8080"},
		User:      "ada",
		Token:     func(context.Context) (string, error) { return os.Getenv("PARLEY_TOKEN"), nil },
	})
	if err != nil {
		log.Fatal(err)
	}
	id, err := c.Mint(ctx)
	if err != nil {
		log.Fatal(err)
	}
	// Store id and text here, and after a restart go on with them here.
	m, err := c.Post(ctx, "01ARZ3NDEKTSV4RRFFQ69G5FAV", client.NewMessage{ID: id, Text: "Of any complexity."})
	if client.IsProblem(err, "not_a_member") {
		log.Fatal("join the room first")
	}
	fmt.Println(m.SentAt, err)
}
