#!/usr/bin/env bash
# Installs the browser in which the tests look at the extender's page. Says in one line what could
# not be had.
set -euo pipefail

readonly packages=(chromium chromium-driver)

missing() {
    ! command -v chromium >/dev/null || ! command -v chromedriver >/dev/null
}

if missing && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "filmgate: installing ${packages[*]} (once)" >&2
    { apt-get update && apt-get install -y --no-install-recommends "${packages[@]}"; } >/dev/null 2>&1 || true
fi
if missing; then
    echo "filmgate: ${packages[*]} are missing and could not be installed: no test in a browser" >&2
    exit 1
fi
