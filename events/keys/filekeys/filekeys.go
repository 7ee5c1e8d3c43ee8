// Package filekeys stores users' data keys in a folder, one file for each key. A key is destroyed by
// removing its file; no log or table still contains it.
//
//	<first byte of the SHA-256 of the user>/<user, in hexadecimal>/<id>     a wrapped key
//	                                                              /erased  the user was erased
package filekeys

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"

	"parley/events"
	"parley/events/keys"
)

// Store is a [keys.Store] in a folder. Make one with [Open]. It is safe for concurrent use, in one
// process and in many.
type Store struct{ dir string }

var _ keys.Store = (*Store)(nil)

const (
	erasedFile = "erased"
	temporary  = ".new-"
)

// Open returns the store in a folder, which it creates if it does not exist.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the folder of keys: %w", err)
	}
	return &Store{dir}, nil
}

// folder returns the folder of a user. Hexadecimal, for file systems that ignore case.
func (s *Store) folder(user string) string {
	sum := sha256.Sum256([]byte(user))
	return filepath.Join(s.dir, hex.EncodeToString(sum[:1]), hex.EncodeToString([]byte(user)))
}

// Load implements [keys.Store].
func (s *Store) Load(ctx context.Context, user string) (keys.Keys, error) {
	if err := ctx.Err(); err != nil {
		return keys.Keys{}, err
	}
	got, err := s.load(s.folder(user))
	if err != nil {
		return keys.Keys{}, fmt.Errorf("load keys: %w", withoutPath(err))
	}
	return got, nil
}

func (s *Store) load(folder string) (keys.Keys, error) {
	var got keys.Keys
	entries, err := os.ReadDir(folder) // sorted by name
	if errors.Is(err, fs.ErrNotExist) {
		return got, nil
	}
	if err != nil {
		return got, err
	}
	for _, entry := range entries {
		if entry.Name() == erasedFile {
			got.Erased = true
			continue
		}
		id, err := keys.ParseID(entry.Name())
		if err != nil {
			continue // left by a write that was interrupted
		}
		bytes, err := os.ReadFile(filepath.Join(folder, entry.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // destroyed just now
		}
		if err != nil {
			return got, err
		}
		got.Wrapped = append(got.Wrapped, keys.Wrapped{ID: id, Bytes: bytes})
	}
	return got, nil
}

// Add implements [keys.Store].
func (s *Store) Add(ctx context.Context, user string, key keys.Wrapped) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	folder := s.folder(user)
	err := s.write(folder, key.ID.String(), key.Bytes)
	// The key is written before this check, and Erase writes its file before it lists keys: one of two
	// concurrent calls sees the other. Erase may also have removed the temporary file.
	if _, found := os.Stat(filepath.Join(folder, erasedFile)); found == nil {
		err = keys.ErrErased
	} else if !errors.Is(found, fs.ErrNotExist) {
		err = errors.Join(err, withoutPath(found))
	}
	if err != nil {
		return fmt.Errorf("add a key: %w", withoutPath(err))
	}
	return nil
}

// Erase implements [keys.Store].
func (s *Store) Erase(ctx context.Context, user string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.erase(s.folder(user)); err != nil {
		return fmt.Errorf("destroy keys: %w", withoutPath(err))
	}
	return nil
}

func (s *Store) erase(folder string) error {
	if err := s.write(folder, erasedFile, nil); err != nil {
		return err
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Name() == erasedFile {
			continue
		}
		if err := os.Remove(filepath.Join(folder, entry.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return syncFolder(folder)
}

// Users implements [keys.Store].
func (s *Store) Users(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		outer, err := os.ReadDir(s.dir)
		for _, byte := range outer {
			inner, innerErr := os.ReadDir(filepath.Join(s.dir, byte.Name()))
			err = errors.Join(err, innerErr, ctx.Err())
			if err != nil {
				break
			}
			for _, entry := range inner {
				user, err := hex.DecodeString(entry.Name())
				if err == nil && !yield(string(user), nil) {
					return
				}
			}
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			yield("", fmt.Errorf("list users with keys: %w", withoutPath(err)))
		}
	}
}

// write writes a file atomically and makes it durable. It creates missing folders.
func (s *Store) write(folder, name string, content []byte) (err error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	file, err := os.CreateTemp(folder, temporary)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name())
		}
	}()
	_, err = file.Write(content)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err = os.Rename(file.Name(), filepath.Join(folder, name)); err != nil {
		return err
	}
	for dir := folder; strings.HasPrefix(dir, s.dir); dir = filepath.Dir(dir) {
		if err = syncFolder(dir); err != nil {
			return err
		}
	}
	return nil
}

// syncFolder makes the names in a folder durable.
func syncFolder(name string) error {
	dir, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// withoutPath drops the path from an error: it contains the user. The errors of a disk pass.
func withoutPath(err error) error {
	if path, is := errors.AsType[*fs.PathError](err); is {
		return events.Unavailable(path.Err)
	}
	if link, is := errors.AsType[*os.LinkError](err); is {
		return events.Unavailable(link.Err)
	}
	return err
}
