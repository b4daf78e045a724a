#!/usr/bin/env bash
# Prints the path of Kubernetes' OpenAPI specification of a version (v1.34.2), out of the module
# k8s.io/kubernetes, which is fetched once. Says in one line when it cannot be had.
set -euo pipefail

readonly version=$1
cache=${FILMGATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/filmgate}
spec=$cache/openapi/$version.json
if [ ! -s "$spec" ] && command -v go >/dev/null; then
    mkdir -p "$cache/openapi"
    exec 9>"$cache/openapi.lock"
    flock 9
    if [ ! -s "$spec" ]; then
        echo "filmgate: fetching the OpenAPI specification of Kubernetes $version (once)" >&2
        if module=$(GOWORK=off go mod download -json "k8s.io/kubernetes@$version"); then
            folder=$(sed -n 's/^[[:space:]]*"Dir": "\(.*\)",*$/\1/p' <<<"$module")
            cp "$folder/api/openapi-spec/swagger.json" "$spec.new" && chmod 644 "$spec.new" && mv "$spec.new" "$spec"
        fi
    fi
fi
if [ ! -s "$spec" ]; then
    echo "filmgate: the OpenAPI specification of Kubernetes $version could not be had: nothing is checked against it" >&2
    exit 1
fi
echo "$spec"
