#!/usr/bin/env bash
# Prints the path of cargo-deny, installed once into the cache where it is not in PATH.
set -euo pipefail
readonly version=0.20.2

if command -v cargo-deny >/dev/null; then
    command -v cargo-deny
    exit
fi
root=${FILMGATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/filmgate}/cargo-deny-$version
if [ ! -x "$root/bin/cargo-deny" ]; then
    echo "filmgate: installing cargo-deny $version (some minutes, once)" >&2
    cargo install --quiet --locked --version "$version" --root "$root" cargo-deny >&2
fi
echo "$root/bin/cargo-deny"
