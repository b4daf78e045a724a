#!/usr/bin/env bash
# Packs busybox as an image, since no registry can be relied on. Usage: image.sh NAME FOLDER
# leaves FOLDER/image.tar.
set -euo pipefail
name=$1
folder=$2/image

mkdir -p "$folder/files/bin"
cp "$(command -v busybox)" "$folder/files/bin/busybox"
ln -s busybox "$folder/files/bin/sh"
tar -C "$folder/files" -cf "$folder/layer.tar" .
layer=$(sha256sum "$folder/layer.tar" | cut -d' ' -f1)
cat >"$folder/config.json" <<JSON
{
  "architecture": "$(dpkg --print-architecture)", "os": "linux",
  "config": {"Cmd": ["/bin/sh", "-c", "while :; do /bin/busybox sleep 1000; done"]},
  "rootfs": {"type": "layers", "diff_ids": ["sha256:$layer"]}
}
JSON
cat >"$folder/manifest.json" <<JSON
[{"Config": "config.json", "RepoTags": ["$name"], "Layers": ["layer.tar"]}]
JSON
tar -C "$folder" -cf "$2/image.tar" config.json manifest.json layer.tar
