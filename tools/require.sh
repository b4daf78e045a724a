#!/usr/bin/env bash
# Says in one line when a toolchain that must be there is missing or too old.
# Usage: tools/require.sh rust|go
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

require() { # name wanted found where
    if [ -z "$3" ]; then
        echo "filmgate: $1 $2 or newer is needed and none is in PATH: see $4" >&2
        exit 1
    fi
    if [ "$(printf '%s\n' "$2" "$3" | sort -V | head -n 1)" != "$2" ]; then
        echo "filmgate: $1 $2 or newer is needed and this is $3: see $4" >&2
        exit 1
    fi
}

case "${1:-}" in
rust)
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    found=$(cargo --version 2>/dev/null | cut -d' ' -f2 || true)
    require Rust "$wanted" "$found" https://rustup.rs
    ;;
go)
    wanted=$(sed -n 's/^go //p' tests/cluster/go.mod)
    found=$(GOTOOLCHAIN=local go version 2>/dev/null | sed -n 's/.* go\([0-9.]*\) .*/\1/p' || true)
    require Go "$wanted" "$found" https://go.dev/dl
    ;;
*)
    echo "usage: tools/require.sh rust|go" >&2
    exit 2
    ;;
esac
