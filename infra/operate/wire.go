package main

import (
	"encoding/json"
	"time"

	"parley/events"
	"parley/infra/operate/source"
)

// What /v1/ops answers, as far as it is looked at here.

type status struct {
	Region string    `json:"region"`
	Time   time.Time `json:"time"`
	Health struct {
		Status    string             `json:"status"`
		Error     string             `json:"error"`
		Stages    map[string]float64 `json:"stages"`    // seconds
		Frontiers map[string]float64 `json:"frontiers"` // seconds
	} `json:"health"`
	Drain struct {
		Drained bool       `json:"drained"`
		By      string     `json:"by"`
		Since   *time.Time `json:"since"`
	} `json:"drain"`
	Parked      int                        `json:"parked"`
	Jobs        []job                      `json:"jobs"`
	Generations map[string]json.RawMessage `json:"generations"`

	raw json.RawMessage
}

// status asks a region how it is, and for its name.
func (r *region) status() (*status, error) {
	var raw json.RawMessage
	if err := r.do(request{method: "GET", url: r.url + "/v1/ops/status", into: &raw, tries: 3}); err != nil {
		return nil, err
	}
	s := &status{raw: raw}
	if err := json.Unmarshal(raw, s); err != nil {
		return nil, err
	}
	if r.name == "" {
		r.name = s.Region
	}
	return s, nil
}

type job struct {
	ID     string `json:"id"`
	Kind   string `json:"kind"`
	Params struct {
		DryRun     bool   `json:"dry_run"`
		Projection string `json:"projection"`
		Room       string `json:"room"`
		To         string `json:"to"`
		Heal       bool   `json:"heal"`
	} `json:"params"`
	State       string          `json:"state"`
	Phase       string          `json:"phase"`
	Done        int64           `json:"done"`
	Total       int64           `json:"total"`
	Rate        float64         `json:"rate"` // a second
	SecondsLeft *int            `json:"seconds_left"`
	Error       string          `json:"error"`
	Result      json.RawMessage `json:"result"`
	By          string          `json:"by"`
	Started     time.Time       `json:"started"`
	Updated     time.Time       `json:"updated"`

	raw json.RawMessage
}

// UnmarshalJSON keeps the job as it came.
func (j *job) UnmarshalJSON(text []byte) error {
	type plain job
	if err := json.Unmarshal(text, (*plain)(j)); err != nil {
		return err
	}
	j.raw = append(json.RawMessage(nil), text...)
	return nil
}

// over reports whether a job is at its end.
func (j *job) over() bool { return j.State == "done" || j.State == "failed" || j.State == "cancelled" }

type parked struct {
	Key    string          `json:"key"`
	Stage  string          `json:"stage"`
	Error  string          `json:"error"`
	At     time.Time       `json:"at"`
	Tries  int             `json:"tries"`
	Stream string          `json:"stream"`
	ID     string          `json:"id"`
	Event  json.RawMessage `json:"event"`
	Record string          `json:"record"`

	raw json.RawMessage
}

// UnmarshalJSON keeps the record as it came.
func (p *parked) UnmarshalJSON(text []byte) error {
	type plain parked
	if err := json.Unmarshal(text, (*plain)(p)); err != nil {
		return err
	}
	p.raw = append(json.RawMessage(nil), text...)
	return nil
}

type eventPage struct {
	Events []rawEvent `json:"events"`
	After  *string    `json:"after"`
}

// rawEvent is an event, spelled as the log spells it.
type rawEvent struct{ events.Event }

// UnmarshalJSON implements [json.Unmarshaler].
func (e *rawEvent) UnmarshalJSON(text []byte) error {
	if err := e.Event.UnmarshalJSON(text); err != nil {
		return err
	}
	e.Event = source.Respelled(e.Event)
	return nil
}

type appended struct {
	Events []struct {
		ID      string `json:"id"`
		Outcome string `json:"outcome"` // stored, repeat or refused
		Problem *struct {
			Code   string `json:"code"`
			Detail string `json:"detail"`
		} `json:"problem"`
	} `json:"events"`
}
