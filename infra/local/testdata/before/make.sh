#!/usr/bin/env bash
# Makes the data folders of the release at a commit, in this folder: make.sh <commit>
#
# The release runs on a clock that is set back to March 2025, so that the folders are old whenever the
# test runs and wherever. Tokens keep the time of day: the library that checks them does.
# (A commit without a before_test.go gets the one of this work tree.)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
made=$(date -u -d 2025-03-09T07:30:15Z +%s)
work=$(mktemp -d)
trap 'git -C "$here" worktree remove --force "$work/release"; rm -rf "$work"' EXIT
git -C "$here" worktree add --quiet --detach "$work/release" "$1"
[ -f "$work/release/infra/local/before_test.go" ] || cp "$here/../../before_test.go" "$work/release/infra/local/"

cd "$work/release"
mkdir events/then
cat >events/then/then.go <<GO
// Package then is package time, some time ago.
package then

import "time"

const ago = ($(date +%s) - $made) * time.Second

func Now() time.Time                  { return time.Now().Add(-ago) }
func Since(t time.Time) time.Duration { return Now().Sub(t) }
func Until(t time.Time) time.Duration { return t.Sub(Now()) }
GO
grep -rlE '\btime\.(Now|Since|Until)\b' --include='*.go' events projections functions infra/local |
  grep -vE 'events/then/|infra/local/control.go|functions/(api|live)/auth.go' |
  xargs perl -0pi -e 's/\btime\.(Now|Since|Until)\b/then.$1/g; s/\nimport \(\n/\nimport (\n\tthen "parley\/events\/then"\n/ or s/\nimport "time"\n/\nimport "time"\nimport then "parley\/events\/then"\n/; $_ .= "\nvar _, _ = time.Now, then.Now\n"'
cd infra/local
go test -vet=off -count=1 -timeout 20m -run '^TestMakeBefore$' . -make-before "$here"
