package main

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// lambdaPackage is what is built.
const lambdaPackage = "./infra/lambda"

// buildEnv and buildArgs make a static binary for Lambda's own Linux on arm64. It is the same
// whatever commit it is built at and in whatever folder, as long as the code is.
var (
	buildEnv  = []string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=arm64"}
	buildArgs = []string{"build", "-tags", "lambda.norpc", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w"}
)

// code is the zipped binary.
type code struct {
	key  string // its name in the bucket, by its content
	file string // where it lies
}

// build builds a package of the module in root and zips it into the folder work.
func build(ctx context.Context, root, pkg, work string) (code, error) {
	binary := filepath.Join(work, "bootstrap")
	cmd := exec.CommandContext(ctx, "go", append(buildArgs[:len(buildArgs):len(buildArgs)], "-o", binary, pkg)...)
	cmd.Dir, cmd.Env = root, append(os.Environ(), buildEnv...)
	if said, err := cmd.CombinedOutput(); err != nil {
		return code{}, fmt.Errorf("build %s: %w\n%s", pkg, err, said)
	}
	content, err := os.ReadFile(binary)
	if err != nil {
		return code{}, fmt.Errorf("read what was built: %w", err)
	}
	zipped, err := zipBootstrap(content)
	if err != nil {
		return code{}, err
	}
	c := code{key: codeKey(zipped), file: filepath.Join(work, codeFile)}
	if err := os.WriteFile(c.file, zipped, 0o600); err != nil {
		return code{}, fmt.Errorf("write the zipped binary: %w", err)
	}
	return c, nil
}

const codeFile = "parley.zip"

func codeKey(zipped []byte) string {
	sum := sha256.Sum256(zipped)
	return "parley/" + hex.EncodeToString(sum[:]) + ".zip"
}

// zipBootstrap zips a binary under the name that Lambda starts. The same binary gives the same bytes: its
// time is fixed and its mode is that of a program.
func zipBootstrap(binary []byte) ([]byte, error) {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	w.RegisterCompressor(zip.Deflate, func(out io.Writer) (io.WriteCloser, error) {
		return flate.NewWriter(out, flate.BestCompression) // a smaller binary starts sooner
	})
	header := &zip.FileHeader{Name: "bootstrap", Method: zip.Deflate, Modified: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)}
	header.SetMode(0o755)
	f, err := w.CreateHeader(header)
	if err == nil {
		_, err = f.Write(binary)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("zip the binary: %w", err)
	}
	return b.Bytes(), nil
}
