#!/usr/bin/env bash
# Installs what a node of the tests has beside its kubelet: containerd, runc, and what its images are
# made of. Says in one line what could not be had.
set -euo pipefail

readonly packages=(binutils busybox-static ca-certificates containerd runc)

missing() {
    ! command -v containerd >/dev/null || ! command -v runc >/dev/null ||
        ! command -v strip >/dev/null || [ ! -d /usr/share/ca-certificates/mozilla ] ||
        ! busybox true 2>/dev/null || ldd "$(command -v busybox)" >/dev/null 2>&1
}

if missing && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "filmgate: installing ${packages[*]} (once)" >&2
    { apt-get update && apt-get install -y --no-install-recommends "${packages[@]}"; } >/dev/null 2>&1 || true
fi
if missing; then
    echo "filmgate: ${packages[*]} are missing and could not be installed: no test on a real kubelet" >&2
    exit 1
fi
