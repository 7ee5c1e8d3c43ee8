package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"parley/events/keys"
)

// The data folder holds
//
//	VERSION      the program and the layout of the folder
//	LOCK         locked by the process that uses the folder
//	token.key    signs the tokens of /local/token; from it cursors and the users' marks are derived
//	root.key     wraps the users' keys: without it no message can be decrypted
//	<region>/    IDENTITY, log/, views/ and keys/; with -store dynamodb only bus/
//	dynamodb/    the files of DynamoDB Local, if it was started here
const (
	versionFile  = "VERSION"
	lockFile     = "LOCK"
	identityFile = "IDENTITY"
)

// layout is the version of the layout of the data folder. The first had no number of stored forms.
const layout = 2

// storedForms is how many stored forms of events, views and the rest there are golden files of. They are only
// ever added to, so that a greater number is a later release: an earlier one does not understand all that it
// finds. A test compares it.
const storedForms = 92

// dataVersion is the content of VERSION, "parley local 2 pebble <forms>": layout, store and stored forms.
type dataVersion struct {
	layout int
	store  string
	forms  int
}

func (v dataVersion) String() string {
	return fmt.Sprintf("parley local %d %s %d", v.layout, v.store, v.forms)
}

// parseVersion reads the content of VERSION; false if Parley has not written it.
func parseVersion(text string) (v dataVersion, ok bool) {
	words := strings.Fields(text)
	if len(words) < 3 || words[0] != "parley" || words[1] != "local" {
		return v, false
	}
	layout, err := strconv.Atoi(words[2])
	if err != nil {
		return v, false
	}
	v = dataVersion{layout: layout, store: storePebble}
	if len(words) > 3 {
		v.store = words[3]
	}
	if len(words) > 4 {
		v.forms, err = strconv.Atoi(words[4])
	}
	return v, err == nil
}

// errDataInUse says that another process has the data folder.
var errDataInUse = errors.New("another parley is using it")

// lockData makes the data folder, or checks that it is one, and locks it until the returned lock is
// closed. The error is errDataInUse if another process has locked it.
func lockData(dir, store string) (*pebble.Lock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("find the data folder: %w", err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil { // within a process the lock goes by this name
		return nil, fmt.Errorf("find the data folder: %w", err)
	}
	current := dataVersion{layout, store, storedForms}
	if err := checkVersion(dir, current); err != nil {
		return nil, err
	}
	lock, err := pebble.LockDirectory(dir, vfs.Default)
	var path *fs.PathError
	if err != nil && !errors.As(err, &path) { // the lock file exists and is locked
		return nil, fmt.Errorf("%w: %w", errDataInUse, err)
	}
	if err != nil {
		return nil, fmt.Errorf("lock the data folder: %w", err)
	}
	// From here on an earlier release refuses the folder, whatever this one has written when it ends.
	if err := writeFile(filepath.Join(dir, versionFile), []byte(current.String()+"\n")); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

// checkVersion refuses a folder that a later release has used, or that holds anything else than data for the
// store.
func checkVersion(dir string, current dataVersion) error {
	text, err := os.ReadFile(filepath.Join(dir, versionFile))
	if err == nil {
		found, ok := parseVersion(string(text))
		switch {
		case !ok:
			return fmt.Errorf("its file %s was not written by parley", versionFile)
		case found.layout > current.layout || found.forms > current.forms:
			return fmt.Errorf("a later release has used it (%s); this one understands %q at most: start the later release, or restore a backup from before it was used", strings.TrimSpace(string(text)), current)
		case found.store != current.store:
			return fmt.Errorf("it was made with -store %s; use that store, or another folder", found.store)
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the version of the data folder: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list the data folder: %w", err)
	}
	for _, e := range entries {
		if e.Name() != lockFile && !strings.HasPrefix(e.Name(), temporary) {
			return errors.New("it holds other files and was not made by parley; use an empty or a new folder")
		}
	}
	return nil
}

// identity returns a name that is unique to the log in a region's folder. One that was deleted and made again
// has another one.
func identity(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make the region's folder: %w", err)
	}
	name := filepath.Join(dir, identityFile)
	if err := writeOnce(name, []byte(rand.Text()+"\n")); err != nil {
		return "", err
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return "", fmt.Errorf("read the region's identity: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

const temporary = ".parley-"

// writeOnce makes a file that only its owner can read, completely or not at all. An existing file is
// left unchanged.
func writeOnce(name string, content []byte) error {
	if _, err := os.Stat(name); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return writeFile(name, content)
}

// writeFile makes or replaces a file that only its owner can read, completely or not at all. A file with that
// content is left as it is.
func writeFile(name string, content []byte) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", filepath.Base(name), err)
		}
	}()
	if found, err := os.ReadFile(name); err == nil && bytes.Equal(found, content) {
		return nil
	}
	file, err := os.CreateTemp(filepath.Dir(name), temporary)
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = file.Write(content)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), name)
}

const rootFile = "root.key"

// openRoot reads the root key in the data folder, or creates it. It wraps the data keys of all users.
func openRoot(data string) (keys.Wrapper, error) {
	fresh := make([]byte, 32)
	_, _ = rand.Read(fresh) // never fails
	name := filepath.Join(data, rootFile)
	if err := writeOnce(name, []byte(hex.EncodeToString(fresh)+"\n")); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read the root key: %w", err)
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, fmt.Errorf("%s is damaged: restore it from a copy; without it no message can be decrypted", name)
	}
	return keys.NewRoot(key)
}

// tryRoot reports whether the root key unwraps one of a region's data keys, and how many of those that it
// tried before it does not.
func tryRoot(ctx context.Context, root keys.Wrapper, store keys.Store) (good bool, bad int, err error) {
	for user, err := range store.Users(ctx) {
		if err != nil {
			return false, bad, err
		}
		got, err := store.Load(ctx, user)
		if err != nil {
			return false, bad, err
		}
		for _, key := range got.Wrapped {
			if _, err := root.Unwrap(ctx, user, key.Bytes); err == nil {
				return true, bad, nil
			}
			bad++
		}
		if bad >= 100 {
			break
		}
	}
	return false, bad, nil
}
