package main

import (
	"parley/events"
	"parley/events/keys"
	"parley/events/keys/keystest"
	"parley/events/logtest"
	"parley/projections"
	"parley/projections/viewtest"
)

// stores are what a region stores: the tables.
type stores struct {
	log   events.Log
	views projections.Views
	keys  keys.Store
}

// open makes the stores of a region, with the planted bug if it is one of theirs.
func (w *world) open(region string) stores {
	s := stores{logtest.NewModel(), viewtest.NewModel(), keystest.NewModel()}
	if w.plant.log != nil {
		s.log = w.plant.log(region, s.log)
	}
	if w.plant.views != nil {
		s.views = w.plant.views(region, s.views)
	}
	if w.plant.keys != nil {
		s.keys = w.plant.keys(region, s.keys)
	}
	return s
}
