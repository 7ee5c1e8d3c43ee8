package dynamolocal

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// The npm package that carries DynamoDB Local, and the SHA-256 of its archive.
const (
	npmPackage = "amplify-dynamodb-simulator"
	npmVersion = "2.9.30"
	npmSHA256  = "3503ffac19f183407909fecdacf4db51ab1fdad1da7b2f177016670b2d80e4b9"
)

// Fetch returns the folder of DynamoDB Local in the user's cache. If it does not exist it is downloaded
// with npm (57 MB) and its checksum verified. The licence requires an AWS account: call this only on
// the user's request.
func Fetch(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("locate the user's cache folder: %w", err)
	}
	parent := filepath.Join(cache, "parley")
	dir := filepath.Join(parent, "dynamodb-local-"+npmVersion)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", fmt.Errorf("create the cache folder: %w", err)
	}
	work, err := os.MkdirTemp(parent, "fetch-")
	if err != nil {
		return "", fmt.Errorf("create a folder in the cache: %w", err)
	}
	defer os.RemoveAll(work)
	if err := fetch(ctx, work); err != nil {
		return "", fmt.Errorf("fetch DynamoDB Local: %w", err)
	}
	// The rename is atomic. If another process downloaded it meanwhile, its folder is the same.
	if err := os.Rename(filepath.Join(work, "emulator"), dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("move DynamoDB Local to the cache: %w", err)
	}
	return dir, nil
}

// fetch downloads the package and unpacks its folder "emulator" into dir.
func fetch(ctx context.Context, dir string) error {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return errors.New("npm is not on the path; install Node.js, or set PARLEY_DYNAMODB to the URL of a running DynamoDB Local")
	}
	cmd := exec.CommandContext(ctx, npm, "pack", "--silent", npmPackage+"@"+npmVersion)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("npm pack %s@%s: %w: %s", npmPackage, npmVersion, err, strings.TrimSpace(string(out)))
	}
	archive, err := os.Open(filepath.Join(dir, npmPackage+"-"+npmVersion+".tgz"))
	if err != nil {
		return err
	}
	defer archive.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, archive); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != npmSHA256 {
		return fmt.Errorf("the archive has SHA-256 %s, expected %s", got, npmSHA256)
	}
	if _, err := archive.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return unpack(archive, dir)
}

// unpack writes the files below package/emulator of an npm archive to dir/emulator. [os.Root] rejects
// names that lead elsewhere.
func unpack(archive io.Reader, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	compressed, err := gzip.NewReader(archive)
	if err != nil {
		return err
	}
	files := tar.NewReader(compressed)
	for {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name, ok := strings.CutPrefix(header.Name, "package/")
		if !ok || !strings.HasPrefix(name, "emulator/") || header.Typeflag != tar.TypeReg {
			continue
		}
		if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		file, err := root.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o644)
		if err != nil {
			return err
		}
		_, err = io.Copy(file, files)
		if err := errors.Join(err, file.Close()); err != nil {
			return err
		}
	}
}
