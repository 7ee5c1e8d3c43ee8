package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// The data folder holds
//
//	VERSION      what made it, and how it is laid out
//	LOCK         held by the process that uses it
//	token.key    signs the tokens of /local/token
//	root.key     wraps the users' keys: without it nobody can read a message
//	<region>/    IDENTITY, log/, views/ and keys/; with -store dynamodb only bus/
//	dynamodb/    what DynamoDB Local keeps, if it was started here
const (
	versionFile  = "VERSION"
	lockFile     = "LOCK"
	identityFile = "IDENTITY"
)

// dataVersion is what VERSION says of data in a store.
func dataVersion(store string) string {
	if store == storePebble {
		return "parley local 1\n"
	}
	return "parley local 1 " + store + "\n"
}

// errDataInUse says that another process has the data folder.
var errDataInUse = errors.New("another parley is using it")

// lockData makes the data folder, or recognises it, and keeps other processes out until the
// returned lock is closed.
func lockData(dir, store string) (*pebble.Lock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the data folder: %w", err)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("find the data folder: %w", err)
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil { // a lock goes by name within a process
		return nil, fmt.Errorf("find the data folder: %w", err)
	}
	if err := recognise(dir, dataVersion(store)); err != nil {
		return nil, err
	}
	lock, err := pebble.LockDirectory(dir, vfs.Default)
	var path *fs.PathError
	if err != nil && !errors.As(err, &path) { // the lock file is there, but held
		return nil, fmt.Errorf("%w: %w", errDataInUse, err)
	}
	if err != nil {
		return nil, fmt.Errorf("lock the data folder: %w", err)
	}
	if err := writeOnce(filepath.Join(dir, versionFile), []byte(dataVersion(store))); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

// recognise refuses a folder that holds something else.
func recognise(dir, want string) error {
	version, err := os.ReadFile(filepath.Join(dir, versionFile))
	switch {
	case err == nil && string(version) == want:
		return nil
	case err == nil && slices.Contains([]string{dataVersion(storePebble), dataVersion(storeDynamo)}, string(version)):
		return errors.New("it was made with another -store; give that one, or another folder")
	case err == nil && strings.HasPrefix(string(version), "parley local "):
		return fmt.Errorf("it was made by another release (%s), this one knows %q only", strings.TrimSpace(string(version)), strings.TrimSpace(want))
	case err == nil:
		return fmt.Errorf("its file %s was not written by parley", versionFile)
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("recognise the data folder: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("recognise the data folder: %w", err)
	}
	for _, e := range entries {
		if e.Name() != lockFile && !strings.HasPrefix(e.Name(), temporary) {
			return errors.New("it holds other files and was not made by parley")
		}
	}
	return nil
}

// identity returns what tells a region's folder from all others, also from one that stood in
// its place before.
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

// writeOnce makes a file that none but its owner can read, whole or not at all. One that is
// there already is left alone.
func writeOnce(name string, content []byte) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("make %s: %w", filepath.Base(name), err)
		}
	}()
	if _, err := os.Stat(name); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
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
