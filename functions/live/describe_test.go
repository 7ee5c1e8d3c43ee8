package live_test

import (
	"encoding/json"
	"log/slog"
	"testing"

	"parley/functions/api"
	"parley/functions/live"
)

// The socket is in the document, though another handler serves it.
func TestDescribe(t *testing.T) {
	a := api.New(api.Options{Region: "eu", Logger: slog.New(slog.DiscardHandler)})
	live.Describe(a)
	text, err := a.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Paths map[string]map[string]struct {
			Responses map[string]struct{ Content map[string]any }
		}
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	answers := doc.Paths["/v1/live"]["get"].Responses
	if _, ok := answers["101"]; !ok || answers["401"].Content["application/problem+json"] == nil {
		t.Errorf("it answers %v", answers)
	}
}
