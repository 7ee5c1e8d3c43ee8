package dynamolog

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// The errors of a checkpoint, to be tested with errors.Is. To read from the beginning all the
// same is for the caller to decide: nothing tells what it has seen of it.
var (
	// ErrCheckpoint: the text is no checkpoint that this version of Parley can read.
	ErrCheckpoint = errors.New("not a checkpoint of a stream")
	// ErrOtherStream: the checkpoint is of another stream: of another table, or of this one before
	// its stream was turned off and on again or the table made anew.
	ErrOtherStream = errors.New("checkpoint of another stream")
)

// A checkpoint is a frontier in text:
//
//	s1/<stream>/<shard>=<place>,<shard>=<place>…
//
// with the members in turn, so that the shard of the record it stands for comes last, and the
// texts for all records of a batch differ in one number at their end. With one open shard, the
// usual case, it takes 81 bytes.
//
// Stream is the first half of a SHA-256, 16 hex digits, of what names the stream in this region.
const checkpointVersion = "s1"

// The places that are no number.
var placeWords = map[kind]string{atOldest: "oldest", atFirst: "first", finished: "done", skipped: "gone"}

// streamIdentity names a stream in checkpoints. DynamoDB Local gives streams in different
// regions one ARN if they were made in the same millisecond; hence the region.
func streamIdentity(region, arn string) string {
	sum := sha256.Sum256([]byte(region + " " + arn))
	return hex.EncodeToString(sum[:8])
}

// encode returns the checkpoint of a frontier of a stream.
func (f *frontier) encode(stream string) string {
	var text strings.Builder
	text.WriteString(checkpointVersion + "/" + stream + "/")
	for i, m := range f.members {
		if i > 0 {
			text.WriteByte(',')
		}
		text.WriteString(m.id + "=" + m.at.encode())
	}
	return text.String()
}

func (p place) encode() string {
	if p.kind == upTo {
		return p.sequence
	}
	return placeWords[p.kind]
}

// decodeFrontier reads what encode wrote, and only that: no two texts mean the same frontier.
func decodeFrontier(checkpoint, stream string) (frontier, error) {
	var f frontier
	version, rest, _ := strings.Cut(checkpoint, "/")
	of, members, ok := strings.Cut(rest, "/")
	if !ok || version != checkpointVersion {
		return f, ErrCheckpoint
	}
	for i, text := range strings.Split(members, ",") {
		id, at, _ := strings.Cut(text, "=")
		place, err := decodePlace(at)
		if err != nil || !validShard(id) || f.index(id) >= 0 {
			return frontier{}, fmt.Errorf("%w: its shard %d", ErrCheckpoint, i+1)
		}
		f.put(id, place)
	}
	if of != stream {
		return frontier{}, ErrOtherStream
	}
	return f, nil
}

func decodePlace(text string) (place, error) {
	for kind, word := range placeWords {
		if text == word {
			return place{kind: kind}, nil
		}
	}
	if !validSequence(text) {
		return place{}, ErrCheckpoint
	}
	return place{upTo, text}, nil
}

// validSequence reports whether a text is a sequence number: up to 40 digits.
func validSequence(text string) bool {
	return text != "" && len(text) <= 40 && strings.Trim(text, "0123456789") == ""
}

// validShard reports whether a shard's id can be part of a checkpoint. They look like
// "shardId-00000001795476538855-7a94a7ce", of 28 to 65 characters.
func validShard(id string) bool {
	return id != "" && len(id) <= 65 && !strings.ContainsAny(id, "/,=")
}
