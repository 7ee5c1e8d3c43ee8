package pebbleview

import (
	"errors"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"

	"parley/projections"
)

// ascending returns the indexes of n keys, partition by partition and ascending in each: what is
// read one after the other then lies in few blocks. Twins stand side by side.
func ascending(n int, key func(i int) projections.Key) []int {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return compareKeys(key(a), key(b)) })
	return order
}

func compareKeys(a, b projections.Key) int {
	if c := strings.Compare(a.Partition, b.Partition); c != 0 {
		return c
	}
	return strings.Compare(a.Sort, b.Sort)
}

// read calls f with the stored version and body, if there is one. The body is valid in f only.
func (v *Views) read(key []byte, f func(version int64, body []byte)) error {
	value, done, err := v.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer done.Close()
	version, body, err := splitValue(value)
	if err != nil {
		return err
	}
	f(version, body)
	return nil
}
