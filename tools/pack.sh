#!/usr/bin/env bash
# Packs a folder as an image of one layer: an OCI layout that is docker's format too, for docker,
# podman, skopeo and containerd. From the same files comes the same digest, whoever packs them and
# when: sorted, root's, and as old as SOURCE_DATE_EPOCH says.
# Usage: tools/pack.sh FOLDER NAME CONFIG FILE, where CONFIG is the image's config in JSON. Prints
# the image's digest.
set -euo pipefail
umask 022
folder=$1
name=$2
config=$3
file=$4
epoch=${SOURCE_DATE_EPOCH:-0}

readonly oci=application/vnd.oci.image
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
blobs=$work/blobs/sha256
mkdir -p "$blobs"

digest() { # file
    sha256sum "$1" | cut -d' ' -f1
}

pack() { # folder, what of it...
    tar --create --directory "$1" --format=ustar --sort=name --mtime="@$epoch" --owner=0 --group=0 \
        --numeric-owner "${@:2}"
}

add_blob() { # from standard input; prints its digest
    cat >"$work/blob"
    local added
    added=$(digest "$work/blob")
    mv "$work/blob" "$blobs/$added"
    echo "$added"
}

descriptor() { # media type, digest, more fields
    printf '{"mediaType":"%s.%s","digest":"sha256:%s","size":%d%s}' \
        "$oci" "$1" "$2" "$(stat -c %s "$blobs/$2")" "${3:-}"
}

case $(uname -m) in
x86_64) architecture=amd64 ;;
aarch64) architecture=arm64 ;;
*) architecture=$(uname -m) ;;
esac

pack "$folder" . >"$work/layer.tar"
files=$(digest "$work/layer.tar")
layer=$(gzip -n <"$work/layer.tar" | add_blob)
rm "$work/layer.tar"
config=$(
    add_blob <<JSON
{"created":"$(date -u -d "@$epoch" +%Y-%m-%dT%H:%M:%SZ)","architecture":"$architecture","os":"linux",
"config":$config,"rootfs":{"type":"layers","diff_ids":["sha256:$files"]}}
JSON
)
manifest=$(
    add_blob <<JSON
{"schemaVersion":2,"mediaType":"$oci.manifest.v1+json",
"config":$(descriptor config.v1+json "$config"),
"layers":[$(descriptor layer.v1.tar+gzip "$layer")]}
JSON
)
named=",\"annotations\":{\"io.containerd.image.name\":\"$name\""
named+=",\"org.opencontainers.image.ref.name\":\"${name##*:}\"}"
echo '{"imageLayoutVersion":"1.0.0"}' >"$work/oci-layout"
cat >"$work/index.json" <<JSON
{"schemaVersion":2,"mediaType":"$oci.index.v1+json",
"manifests":[$(descriptor manifest.v1+json "$manifest" "$named")]}
JSON
cat >"$work/manifest.json" <<JSON
[{"Config":"blobs/sha256/$config","RepoTags":["$name"],"Layers":["blobs/sha256/$layer"]}]
JSON
pack "$work" blobs index.json manifest.json oci-layout >"$file"
echo "sha256:$manifest"
