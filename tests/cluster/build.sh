#!/usr/bin/env bash
# Builds the control plane that the tests run against, once, and prints the
# folder that holds it (the last line of stdout): `cluster`, which is etcd and
# the Kubernetes components, and `kwok`, which plays the kubelets.
#
# The first build takes some ten minutes of two cores, 3 GB of memory and 4 GB of
# Go's build cache; hence a cache outside the tree, keyed by what is built.
set -euo pipefail

readonly kwok_version=v0.8.0
readonly version_package=k8s.io/component-base/version

fail() {
    echo "tests/cluster: $*" >&2
    exit 1
}

cd "$(dirname "${BASH_SOURCE[0]}")"
export GOWORK=off # a workspace around this tree has no say in what is built

# Compiled in: an API server that does not know its version refuses to start.
kubernetes_version=$(sed -n 's/.*k8s\.io\/kubernetes \(v[0-9.]*\).*/\1/p' go.mod)
IFS=. read -r major minor _ <<<"${kubernetes_version#v}"
wanted_go=$(sed -n 's/^go //p' go.mod)

command -v go >/dev/null ||
    fail "Go $wanted_go or newer is needed to build the test cluster, and there is no go in PATH"
go_version=$(go env GOVERSION 2>/dev/null || GOTOOLCHAIN=local go version | cut -d' ' -f3)
oldest=$(printf '%s\n' "$wanted_go" "${go_version#go}" | sort -V | head -n 1)
[ "$oldest" = "$wanted_go" ] ||
    fail "Go $wanted_go or newer is needed to build the test cluster, and this is $go_version"

sources=$(cat go.mod go.sum ./*.go build.sh | sha256sum)
key=$(printf '%s %s' "$sources" "$go_version" | sha256sum | cut -c1-16)
cache=${FILMGATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/filmgate}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
built=$cache/cluster-$key

if [ ! -d "$built" ]; then
    # Held until this script ends: whoever comes second finds the first one's work.
    exec 9>"$cache/cluster.lock"
    flock 9
fi
if [ ! -d "$built" ]; then
    echo "tests/cluster: building Kubernetes $kubernetes_version (about ten minutes, once)" >&2
    unfinished=$cache/cluster.unfinished
    rm -rf "$unfinished"
    mkdir "$unfinished"
    go build -trimpath -o "$unfinished/cluster" -ldflags "-s -w \
        -X $version_package.gitVersion=$kubernetes_version \
        -X $version_package.gitMajor=$major -X $version_package.gitMinor=$minor" . >&2
    GOBIN=$unfinished go install -trimpath -ldflags "-s -w" \
        "sigs.k8s.io/kwok/cmd/kwok@$kwok_version" >&2
    mv "$unfinished" "$built"
fi
echo "$built"
