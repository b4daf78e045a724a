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
"$root/bin/cargo-cyclonedx" cyclonedx --quiet \
    --format json --spec-version 1.5 --target "$(rustc -vV | sed -n 's/^host: //p')" \
    --override-filename "$written"
# As for the image: the same sources make the same file, which knows no folder of this machine.
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
sed -e '/^  "serialNumber": /d' -e "s|file://$PWD|file:///filmgate|" \
    -e "s|\"timestamp\": \".*\"|\"timestamp\": \"$(date -u -d "@$epoch" +%Y-%m-%dT%H:%M:%SZ)\"|" \
    "$written.json" >"$file"
echo "$file"
