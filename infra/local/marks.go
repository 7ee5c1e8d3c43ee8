package main

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// What a region remembers beside its log lies in one database, told apart by the first byte of
// the key. One write-ahead log holds all of it, so what a crash takes back is a tail: a mark
// that is there has all writes before it there too. That is why none of them is fsynced.
const (
	viewsPrefix = 'v'
	busPrefix   = 'b'
	marksPrefix = 'm'
)

// marks remembers by name how far something has come: how much of the log was handled, how much
// of it another region has.
type marks struct{ db *pebble.DB }

func markKey(name string) []byte { return append([]byte{marksPrefix}, name...) }

// load returns the mark of a name, "" if there is none.
func (m marks) load(name string) (string, error) {
	value, done, err := m.db.Get(markKey(name))
	if errors.Is(err, pebble.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("load the mark %s: %w", name, err)
	}
	defer func() { _ = done.Close() }()
	return string(value), nil
}

// save sets a mark. It must come after the writes it stands for.
func (m marks) save(name, mark string) error {
	if err := m.db.Set(markKey(name), []byte(mark), pebble.NoSync); err != nil {
		return fmt.Errorf("save the mark %s: %w", name, err)
	}
	return nil
}
