#!/usr/bin/env bash
# Writes the bill of materials of filmgate, every crate in it with its version, checksum and licence,
# as CycloneDX. Usage: tools/sbom.sh FILE
set -euo pipefail
readonly version=0.5.7

file=$(realpath "$1")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=${FILMGATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/filmgate}/cargo-cyclonedx-$version
if [ ! -x "$root/bin/cargo-cyclonedx" ]; then
    echo "filmgate: installing cargo-cyclonedx $version (some minutes, once)" >&2
    cargo install --quiet --locked --version "$version" --root "$root" cargo-cyclonedx >&2
fi
# It writes beside each Cargo.toml of the workspace, and nowhere else.
written=filmgate-sbom-$$
trap 'rm -f "$written.json" "tests/nvml-stand-in/$written.json"' EXIT
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-0} "$root/bin/cargo-cyclonedx" cyclonedx --quiet \
    --format json --spec-version 1.5 --target "$(rustc -vV | sed -n 's/^host: //p')" \
    --override-filename "$written"
mv "$written.json" "$file"
echo "$file"
