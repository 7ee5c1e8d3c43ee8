package source

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path"
	"path/filepath"
	"slices"
)

// Open opens a file or folder and detects its format. A zip file or folder with lists of channels, or with
// folders of days, is a Slack export; another folder is read as its *.jsonl and *.ndjson files; any other
// file holds JSON lines. "-" is standard input, which is copied to a temporary file first. The caller closes
// the closer when done. slackIDs is [Slack.IDs].
func Open(name string, slackIDs bool) (Source, io.Closer, error) {
	if name != "-" {
		return open(name, filepath.Base(name), slackIDs)
	}
	file, err := spool(os.Stdin)
	if err != nil {
		return nil, nil, err
	}
	remove := closeFunc(func() error { return os.Remove(file) })
	src, closer, err := open(file, "standard input", slackIDs)
	if err != nil {
		return nil, nil, errors.Join(err, remove())
	}
	return src, closeFunc(func() error { return errors.Join(closer.Close(), remove()) }), nil
}

// open opens a file or folder that problems call shown.
func open(name, shown string, slackIDs bool) (Source, io.Closer, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, nil, fmt.Errorf("open the source: %w", err)
	}
	switch {
	case info.IsDir():
		return openFolder(name, slackIDs)
	case isZip(name):
		z, err := zip.OpenReader(name)
		if err != nil {
			return nil, nil, fmt.Errorf("open the source: %w", err)
		}
		files := filesOfZip(&z.Reader)
		if !isSlack(files) {
			return nil, nil, errors.Join(fmt.Errorf("%s is not a Slack export: it has neither channels.json nor folders of days", shown), z.Close())
		}
		return Slack{files, slackIDs}, z, nil
	default:
		return fileLines(name, shown), nopCloser, nil
	}
}

func openFolder(name string, slackIDs bool) (Source, io.Closer, error) {
	files := FilesOf(os.DirFS(name))
	if isSlack(files) {
		return Slack{files, slackIDs}, nopCloser, nil
	}
	var all sequence
	others := 0
	for _, f := range files {
		if ext := path.Ext(f.Name); ext == ".jsonl" || ext == ".ndjson" {
			all = append(all, Lines{f.Name, f.Open})
		} else {
			others++
		}
	}
	if len(all) == 0 {
		return nil, nil, fmt.Errorf("%s has neither channels.json nor folders of days (a Slack export) nor *.jsonl or *.ndjson files", name)
	}
	if others > 0 {
		all = append(all, noteSource{Place{File: filepath.Base(name)}, fmt.Sprintf("%d files that are no *.jsonl or *.ndjson are not imported", others)})
	}
	return all, nopCloser, nil
}

// noteSource is a source that has only a note.
type noteSource struct {
	place Place
	note  string
}

// Records implements [Source].
func (s noteSource) Records() iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) { yield(Record{Place: s.place, Kind: KindNote, Note: s.note}, nil) }
}

func isZip(name string) bool {
	f, err := os.Open(name)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	head := make([]byte, 4)
	n, _ := io.ReadFull(f, head)
	return slices.Contains([]string{"PK\x03\x04", "PK\x05\x06"}, string(head[:n]))
}

// spool copies to a temporary file what can be read only once.
func spool(in io.Reader) (name string, err error) {
	f, err := os.CreateTemp("", "parley-import-")
	if err != nil {
		return "", fmt.Errorf("copy standard input: %w", err)
	}
	_, err = io.Copy(f, in)
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(fmt.Errorf("copy standard input: %w", err), os.Remove(f.Name()))
	}
	return f.Name(), nil
}

type closeFunc func() error

func (c closeFunc) Close() error { return c() }

var nopCloser = closeFunc(func() error { return nil })
