#!/usr/bin/env bash
# Prints the folder that holds helm and kubeconform: where PATH has them, or built once from their Go
# modules into the cache. Says in one line when they cannot be had.
set -euo pipefail

readonly helm_version=v3.22.0
readonly kubeconform_version=v0.8.0

is_there() { # folder
    "$1/helm" version --short >/dev/null 2>&1 && "$1/kubeconform" -v >/dev/null 2>&1
}

installed=$(dirname "$(command -v kubeconform || echo /nonexistent/kubeconform)")
if is_there "$installed"; then
    echo "$installed"
    exit
fi
cache=${FILMGATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/filmgate}
built=$cache/helm-$helm_version-$kubeconform_version
if ! is_there "$built" && command -v go >/dev/null; then
    mkdir -p "$cache"
    # Held until this script ends: whoever comes second finds the first one's work.
    exec 9>"$cache/helm.lock"
    flock 9
    if ! is_there "$built"; then
        echo "filmgate: building helm $helm_version and kubeconform $kubeconform_version (two minutes, once)" >&2
        unfinished=$cache/helm.unfinished
        rm -rf "$unfinished" "$built"
        mkdir "$unfinished"
        export GOWORK=off GOBIN=$unfinished
        if go install -trimpath -ldflags "-s -w" "helm.sh/helm/v3/cmd/helm@$helm_version" >&2 &&
            go install -trimpath -ldflags "-s -w" \
                "github.com/yannh/kubeconform/cmd/kubeconform@$kubeconform_version" >&2; then
            mv "$unfinished" "$built"
        fi
    fi
fi
if ! is_there "$built"; then
    echo "filmgate: helm and kubeconform are missing and could not be built: the chart is not tested" >&2
    exit 1
fi
echo "$built"
