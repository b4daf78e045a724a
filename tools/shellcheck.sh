#!/usr/bin/env bash
# Runs shellcheck over the project's shell scripts; installs it where apt can.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! command -v shellcheck >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        { apt-get update && apt-get install -y --no-install-recommends shellcheck; } >/dev/null 2>&1 || true
    fi
fi
if ! command -v shellcheck >/dev/null; then
    echo "filmgate: shellcheck is missing and could not be installed; shell scripts are not checked" >&2
    [ "${CI:-}" != true ]
    exit
fi
git ls-files '*.sh' .ci/run | xargs shellcheck
