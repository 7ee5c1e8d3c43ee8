package main

import (
	"path/filepath"

	"parley/events"
	"parley/events/keys"
	"parley/events/keys/keystest"
	"parley/events/logtest"
	"parley/events/pebbledb"
	"parley/events/pebblelog"
	"parley/projections"
	"parley/projections/pebbleview"
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
	s := stores{keys: keystest.NewModel()}
	if w.options.Stores == "pebble" {
		w.openPebble(&s, region)
	} else {
		s.log, s.views = logtest.NewModel(), viewtest.NewModel()
	}
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

// openPebble opens the embedded stores of a region in a directory of the test.
func (w *world) openPebble(s *stores, region string) {
	dir := filepath.Join(w.t.TempDir(), region)
	log, err := pebblelog.Open(filepath.Join(dir, "log"), pebblelog.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.closers = append(w.closers, log.Close)
	views, err := pebbleview.Open(filepath.Join(dir, "views"), pebbledb.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.closers = append(w.closers, views.Close)
	s.log, s.views = log, pebbleview.New(views)
}
