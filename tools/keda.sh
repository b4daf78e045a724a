#!/usr/bin/env bash
# Prints the folder that holds KEDA as its release is: `keda`, the operator; `keda-adapter`, which the
# API server asks for external metrics; and `config`, what is put into a cluster. Built from its Go
# module, once, into the cache. Says in one line when it cannot be had.
set -euo pipefail

readonly version=v2.21.0
readonly module=github.com/kedacore/keda/v2

fail() {
    echo "filmgate: KEDA $version cannot be built: $*" >&2
    exit 1
}

command -v go >/dev/null || fail "there is no go in PATH"
go_version=$(go env GOVERSION 2>/dev/null || GOTOOLCHAIN=local go version | cut -d' ' -f3)
key=$(printf '%s %s' "$(sha256sum <"${BASH_SOURCE[0]}")" "$go_version" | sha256sum | cut -c1-16)
cache=${FILMGATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/filmgate}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
built=$cache/keda-$version-$key

if [ ! -d "$built" ]; then
    # Held until this script ends: whoever comes second finds the first one's work.
    exec 9>"$cache/keda.lock"
    flock 9
fi
if [ ! -d "$built" ]; then
    echo "filmgate: building KEDA $version into $built (about ten minutes, once)" >&2
    unfinished=$cache/keda.unfinished
    rm -rf "$unfinished"
    mkdir "$unfinished"
    cd "$unfinished"
    # A workspace and flags around this tree have no say in what is built.
    export GOWORK=off GOFLAGS=-buildvcs=false
    GOFLAGS=-mod=mod go mod download "$module@$version" >&2 || fail "its module cannot be had"
    # Its go.mod replaces a module, which counts in the main module alone: so it is to be that.
    cp -r "$(GOFLAGS=-mod=mod go env GOMODCACHE)/$module@$version" source
    chmod -R u+w source
    flags="-s -w -X $module/version.Version=${version#v}"
    for program in keda:operator keda-adapter:adapter; do
        go build -C source -trimpath -ldflags "$flags" -o "../${program%:*}" "./cmd/${program#*:}" >&2 ||
            fail "go build ./cmd/${program#*:} failed"
    done
    mv source/config source/LICENSE .
    rm -rf source
    mv "$unfinished" "$built"
fi
echo "$built"
