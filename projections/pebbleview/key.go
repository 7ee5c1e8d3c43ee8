package pebbleview

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"

	"parley/projections"
)

// appendPartition appends what all keys of a partition begin with, and no other key does.
func appendPartition(dst, prefix []byte, partition string) []byte {
	dst = append(dst, prefix...)
	dst = binary.AppendUvarint(dst, uint64(len(partition)))
	return append(dst, partition...)
}

// appendKey appends the key of a view.
func appendKey(dst, prefix []byte, k projections.Key) []byte {
	return append(appendPartition(dst, prefix, k.Partition), k.Sort...)
}

// appendSuccessor appends the least key above all that begin with start, which must hold a byte
// other than 0xff, as every partition's start does: the last byte of its length.
func appendSuccessor(dst, start []byte) []byte {
	end := len(start) - 1
	for start[end] == 0xff {
		end--
	}
	dst = append(dst, start[:end+1]...)
	dst[len(dst)-1]++
	return dst
}

var errDamaged = errors.New("stored value is damaged")

// splitValue returns the version and the body that a value holds. The body is a part of value.
func splitValue(value []byte) (version int64, body []byte, err error) {
	v, n := binary.Uvarint(value)
	if n <= 0 || v == 0 || v > math.MaxInt64 {
		return 0, nil, errDamaged
	}
	return int64(v), value[n:], nil
}

// valueSize is the length of the value that putValue writes.
func valueSize(version int64, body []byte) int {
	var header [binary.MaxVarintLen64]byte
	return binary.PutUvarint(header[:], uint64(version)) + len(body)
}

// putValue writes the value of a view.
func putValue(dst []byte, version int64, body []byte) {
	copy(dst[binary.PutUvarint(dst, uint64(version)):], body)
}

// kind is the part of a partition that may stand in an error: "timeline", without the id.
func kind(partition string) string {
	if kind, _, ok := strings.Cut(partition, "/"); ok {
		return kind
	}
	return "unknown kind"
}

// readError wraps what went wrong with a view, without its key. What is not a damaged value is an error of the
// disk, or of damage there, and passes.
func readError(partition string, err error) error {
	if !errors.Is(err, errDamaged) {
		err = fmt.Errorf("%w: %w", projections.ErrUnavailable, err)
	}
	return fmt.Errorf("read a view of %s: %w", kind(partition), err)
}
