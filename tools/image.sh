#!/usr/bin/env bash
# Packs a filmgate program as its image, as the Dockerfile does, where there is no container engine.
# Usage: tools/image.sh PROGRAM FILE. Prints the image's digest.
set -euo pipefail
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
program=$1
file=$2

version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$tools/../Cargo.toml" | head -n 1)
revision=$(git -C "$tools" rev-parse HEAD 2>/dev/null || echo unknown)
committed=$(git -C "$tools" log -1 --format=%ct 2>/dev/null || echo 0)
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$committed}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$tools/rootfs.sh" "$program" "$work/root"
"$tools/pack.sh" "$work/root" "docker.io/library/filmgate:$version" "$(
    cat <<JSON
{"User":"65532:65532","Entrypoint":["/usr/bin/filmgate"],"Labels":{
"org.opencontainers.image.title":"filmgate",
"org.opencontainers.image.description":"GPU sharing on Kubernetes decided by measured VRAM",
"org.opencontainers.image.licenses":"Apache-2.0",
"org.opencontainers.image.version":"$version",
"org.opencontainers.image.revision":"$revision"}}
JSON
)" "$file"
