package pebbleview

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"parley/projections"
)

func FuzzKey(f *testing.F) {
	long := strings.Repeat("p", 127)
	f.Add("v/", "a", "b", "a", "c")
	f.Add("", "a", "", "ab", "")
	f.Add("\xff", "", "\xff", "\xff\xff", "")
	f.Add("v", long, "1", long+"p", "")
	f.Add("v", "a\x00", "b", "a", "\x00b")
	f.Fuzz(func(t *testing.T, prefix, partition, sort, partition2, sort2 string) {
		start := appendPartition(nil, []byte(prefix), partition)
		end := appendSuccessor(nil, start)
		a := appendKey(nil, []byte(prefix), projections.Key{Partition: partition, Sort: sort})
		b := appendKey(nil, []byte(prefix), projections.Key{Partition: partition2, Sort: sort2})

		if string(a[len(start):]) != sort {
			t.Errorf("the sort key came back as %q, want %q", a[len(start):], sort)
		}
		if bytes.Compare(start, a) > 0 || bytes.Compare(a, end) >= 0 {
			t.Errorf("key %q lies outside of its partition %q to %q", a, start, end)
		}
		inside := bytes.Compare(start, b) <= 0 && bytes.Compare(b, end) < 0
		if inside != (partition == partition2) {
			t.Errorf("key %q in partition %q to %q: got %t", b, start, end, inside)
		}
		if partition == partition2 && bytes.Compare(a, b) != strings.Compare(sort, sort2) {
			t.Errorf("sort keys %q and %q are in another order than %q and %q", sort, sort2, a, b)
		}
		if bytes.Equal(a, b) != (partition == partition2 && sort == sort2) {
			t.Errorf("keys %q and %q: got one key for two, or two for one", a, b)
		}
	})
}

func FuzzValue(f *testing.F) {
	for _, value := range [][]byte{
		nil,
		{0},
		{1},
		{1, 'x'},
		{0x80},
		{0x81, 0x00},
		slices.Repeat([]byte{0xff}, 11), encode(math.MaxInt64, nil),
		encode(128, []byte("body")),
	} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		version, body, err := splitValue(value)
		if err != nil {
			if !errors.Is(err, errDamaged) || version != 0 || body != nil {
				t.Errorf("got version %d, %d bytes, error %v", version, len(body), err)
			}
			return
		}
		if version < 1 {
			t.Errorf("got version %d", version)
		}
		again, body2, err := splitValue(encode(version, body))
		if err != nil || again != version || !bytes.Equal(body, body2) {
			t.Errorf("version %d came back as %d, error %v", version, again, err)
		}
	})
}

func encode(version int64, body []byte) []byte {
	value := make([]byte, valueSize(version, body))
	putValue(value, version, body)
	return value
}

// Whatever comes back was once put in whole: what is cut off in the version is an error.
func TestValueCutOff(t *testing.T) {
	t.Parallel()
	whole := encode(1<<40, nil)
	for n := range whole {
		if _, _, err := splitValue(whole[:n]); err == nil {
			t.Errorf("%d of %d bytes of a version: got no error", n, len(whole))
		}
	}
}
