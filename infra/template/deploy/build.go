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
	"slices"
	"strings"
	"time"
)

// lambdaPackage is the package of the Lambda binary.
const lambdaPackage = "./infra/lambda"

// buildEnv and buildArgs make a static binary for Lambda's own Linux on arm64. The same commit gives
// the same binary in whatever folder it is built. The commit is part of it, so that /health and status
// show what a region runs.
var (
	buildEnv  = []string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=arm64"}
	buildArgs = []string{"build", "-tags", "lambda.norpc", "-trimpath", "-buildvcs=auto", "-ldflags", "-s -w"}
)

// code is the zipped binary.
type code struct {
	key  string // its name in the bucket, which has the digest of the content
	file string
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
		return code{}, fmt.Errorf("read the binary: %w", err)
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

// zipBootstrap zips a binary under the name that Lambda starts. The same binary gives the same bytes:
// its time and mode are fixed.
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

// templates are the texts of global.yaml and region.yaml.
type templates struct{ global, region string }

func readTemplates(root string) (templates, error) {
	var t templates
	for name, text := range map[string]*string{"global.yaml": &t.global, "region.yaml": &t.region} {
		b, err := os.ReadFile(filepath.Join(root, "infra", "template", name))
		if err != nil {
			return t, fmt.Errorf("read a template: %w", err)
		}
		*text = string(b)
	}
	return t, nil
}

// forGlobal returns the template of the log with a replica in each of the regions. The replica in
// the region unprotected, if that is not "", is about to be deleted and may be.
func (t templates) forGlobal(regions []string, unprotected string) (string, error) {
	return repeat(t.global, "each region", "us-east-1", regions, func(region, block string) string {
		if region == unprotected {
			return strings.ReplaceAll(block, "DeletionProtectionEnabled: true", "DeletionProtectionEnabled: false")
		}
		return block
	})
}

// forRegion returns the template of a region, whose writes are replicated to the others.
func (t templates) forRegion(others []string) (string, error) {
	return repeat(t.region, "each other region", "eu-west-1", others, nil)
}

// repeat returns text in which each block between the lines "# <mark>: begin" and "# <mark>: end"
// is repeated for each of the regions, sorted, with the region's name in place of the sample's. If
// change is not nil it is applied to each copy. A text without such a block is an error.
func repeat(text, mark, sample string, regions []string, change func(region, block string) string) (string, error) {
	begin := "# " + mark + ": begin"
	before, rest, begins := cutLine(text, begin)
	block, after, ends := cutLine(rest, "# "+mark+": end")
	if !begins || !ends || !strings.Contains(block, sample) {
		return "", fmt.Errorf("a template has no block %q about %s", mark, sample)
	}
	var b strings.Builder
	b.WriteString(before)
	for _, region := range slices.Sorted(slices.Values(regions)) {
		one := strings.NewReplacer(sample, region, camel(sample), camel(region)).Replace(block)
		if change != nil {
			one = change(region, one)
		}
		b.WriteString(one)
	}
	if _, _, more := cutLine(after, begin); more {
		var err error
		if after, err = repeat(after, mark, sample, regions, change); err != nil {
			return "", err
		}
	}
	b.WriteString(after)
	return b.String(), nil
}

// cutLine cuts text before and after the given line; spaces around it are ignored.
func cutLine(text, line string) (before, after string, found bool) {
	at := 0
	for l := range strings.Lines(text) {
		if strings.TrimSpace(l) == line {
			return text[:at], text[at+len(l):], true
		}
		at += len(l)
	}
	return text, "", false
}

// camel returns a region's name in the form of a logical id, which has letters and digits only:
// EuWest1.
func camel(region string) string {
	var b strings.Builder
	for word := range strings.SplitSeq(region, "-") {
		b.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return b.String()
}
