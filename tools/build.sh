#!/usr/bin/env bash
# Builds filmgate as it is shipped, and prints where the program is. Nothing in it tells in which
# folders it was built.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The one that runs this, if one does: another would build everything anew.
cargo=${CARGO:-cargo}
"$cargo" fetch --quiet --locked >&2
# The folders of crates have the registry's address in their names.
flags=("--remap-path-prefix=$PWD=/filmgate")
for registry in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do
    flags+=("--remap-path-prefix=$registry=/crates")
done
CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f' && echo "${flags[*]}")
export CARGO_ENCODED_RUSTFLAGS
"$cargo" build --locked --profile dist --bin filmgate >&2
echo "${CARGO_TARGET_DIR:-$PWD/target}/dist/filmgate"
