package source

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Open finds out what a file or folder holds: a zip or a folder with Slack's channels.json is an
// export of Slack's, a folder without one holds JSON lines in *.jsonl and *.ndjson, all else is JSON
// lines. "-" is standard input, which is written to a temporary file first. Close it when done.
func Open(name string, slackIDs bool) (Source, io.Closer, error) {
	if name == "-" {
		return spool(os.Stdin)
	}
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
		files := findSlack(z)
		if files == nil {
			return nil, nil, errors.Join(fmt.Errorf("%s holds no channels.json: it is no export of Slack's", name), z.Close())
		}
		return Slack{files, slackIDs}, z, nil
	default:
		return fileLines(name, filepath.Base(name)), nothing{}, nil
	}
}

func openFolder(name string, slackIDs bool) (Source, io.Closer, error) {
	if files := findSlack(os.DirFS(name)); files != nil {
		return Slack{files, slackIDs}, nothing{}, nil
	}
	entries, err := fs.ReadDir(os.DirFS(name), ".") // sorted by name
	if err != nil {
		return nil, nil, fmt.Errorf("open the source: %w", err)
	}
	var all many
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); !e.IsDir() && slices.Contains([]string{".jsonl", ".ndjson"}, ext) {
			all = append(all, fileLines(filepath.Join(name, e.Name()), e.Name()))
		}
	}
	if len(all) == 0 {
		return nil, nil, fmt.Errorf("%s holds neither channels.json (Slack) nor *.jsonl or *.ndjson", name)
	}
	return all, nothing{}, nil
}

func fileLines(name, shown string) Lines {
	return Lines{shown, func() (io.ReadCloser, error) {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("open the source: %w", err)
		}
		return f, nil
	}}
}

func isZip(name string) bool {
	f, err := os.Open(name)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	var head [4]byte
	n, _ := io.ReadFull(f, head[:])
	return strings.HasPrefix(string(head[:n]), "PK\x03\x04") || strings.HasPrefix(string(head[:n]), "PK\x05\x06")
}

// many is sources one behind the other.
type many []Source

// Records implements [Source].
func (m many) Records() iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for _, src := range m {
			for rec, err := range src.Records() {
				if !yield(rec, err) {
					return
				}
			}
		}
	}
}

// spool keeps what can be read only once.
func spool(in io.Reader) (Source, io.Closer, error) {
	f, err := os.CreateTemp("", "parley-import-")
	if err != nil {
		return nil, nil, fmt.Errorf("keep standard input: %w", err)
	}
	_, err = io.Copy(f, in)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("keep standard input: %w", err), os.Remove(f.Name()))
	}
	return fileLines(f.Name(), "standard input"), temporary(f.Name()), nil
}

type temporary string

func (t temporary) Close() error { return os.Remove(string(t)) }

type nothing struct{}

func (nothing) Close() error { return nil }
