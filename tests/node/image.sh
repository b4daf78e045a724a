#!/usr/bin/env bash
# Packs busybox as an image, since no registry can be relied on. Usage: image.sh NAME FILE
set -euo pipefail
tools=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../tools" && pwd)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$tools/rootfs.sh" "$(command -v busybox)" "$work/root"
ln -s busybox "$work/root/usr/bin/sh"
"$tools/pack.sh" "$work/root" "$1" \
    '{"Cmd":["/bin/sh","-c","while :; do /bin/busybox sleep 1000; done"]}' "$2"
