package source

import (
	"archive/zip"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
)

// File is a file of a source.
type File struct {
	Name string // its path, with slashes
	Open func() (io.ReadCloser, error)
	err  error // why it cannot be opened
}

// unopenable returns a file, or a folder, that cannot be opened.
func unopenable(name string, err error) File {
	return File{name, func() (io.ReadCloser, error) { return nil, err }, err}
}

var (
	errNotRegular = errors.New("it is no regular file")
	errOutside    = errors.New("its name leads out of the archive")
)

// FilesOf returns the files of a folder and of those below it, sorted by name. What operating systems add
// for themselves is left out.
func FilesOf(folder fs.FS) []File {
	var files []File
	_ = fs.WalkDir(folder, ".", func(name string, entry fs.DirEntry, err error) error { // its errors are in the files
		switch {
		case err != nil:
			files = append(files, unopenable(name, err))
		case entry.IsDir():
		case !entry.Type().IsRegular():
			files = append(files, unopenable(name, errNotRegular))
		default:
			files = append(files, File{Name: name, Open: func() (io.ReadCloser, error) { return folder.Open(name) }})
		}
		return nil
	})
	return tidy(files)
}

// filesOfZip returns the files of a zip archive. The names of one that was made elsewhere may have
// backslashes, and be in the code page of DOS.
func filesOfZip(z *zip.Reader) []File {
	var files []File
	for _, f := range z.File {
		name := f.Name
		if !utf8.ValidString(name) {
			if decoded, err := charmap.CodePage437.NewDecoder().String(name); err == nil {
				name = decoded
			}
		}
		if strings.HasSuffix(name, "/") || strings.HasSuffix(name, `\`) {
			continue // a folder
		}
		if !f.Mode().IsRegular() {
			files = append(files, unopenable(name, errNotRegular))
			continue
		}
		files = append(files, File{Name: name, Open: func() (io.ReadCloser, error) { return f.Open() }})
	}
	return tidy(files)
}

// tidy returns the files with clean names, sorted, without what operating systems add.
func tidy(files []File) []File {
	for i, f := range files {
		name := strings.ReplaceAll(f.Name, `\`, "/")
		if clean := path.Clean("/" + name)[1:]; strings.Contains("/"+name+"/", "/../") {
			files[i] = unopenable(clean, errOutside)
		} else {
			files[i].Name = clean
		}
	}
	files = slices.DeleteFunc(files, func(f File) bool {
		base := path.Base(f.Name)
		return strings.HasPrefix(base, "._") || slices.Contains([]string{".DS_Store", "Thumbs.db", "desktop.ini"}, base) ||
			strings.Contains("/"+f.Name, "/__MACOSX/")
	})
	slices.SortStableFunc(files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	return files
}
