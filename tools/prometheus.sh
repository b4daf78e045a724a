#!/usr/bin/env bash
# Prints the folder that holds prometheus and promtool: where PATH has them, or unpacked once into
# the cache from Debian's package, which starts no service and makes no user. Says in one line when
# they cannot be had.
set -euo pipefail

is_there() { # folder
    "$1/promtool" --version >/dev/null 2>&1 && "$1/prometheus" --version >/dev/null 2>&1
}

installed=$(dirname "$(command -v promtool || echo /nonexistent/promtool)")
if is_there "$installed"; then
    echo "$installed"
    exit
fi
root=${FILMGATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/filmgate}/prometheus
if ! is_there "$root/usr/bin" && command -v apt-get >/dev/null; then
    echo "filmgate: unpacking Debian's package prometheus into $root (once)" >&2
    mkdir -p "$(dirname "$root")"
    new=$(mktemp -d "$root.XXXXXX")
    trap 'rm -rf "$new"' EXIT
    chmod 755 "$new"
    (
        cd "$new"
        apt-get download prometheus || { apt-get update && apt-get download prometheus; }
        dpkg -x prometheus_*.deb . && rm prometheus_*.deb
    ) >/dev/null 2>&1 || true
    # Whoever unpacked it meanwhile was as good.
    if is_there "$new/usr/bin" && ! is_there "$root/usr/bin"; then
        rm -rf "$root" && mv -T "$new" "$root"
    fi
fi
if ! is_there "$root/usr/bin"; then
    echo "filmgate: prometheus and promtool are missing and could not be had: no test asks them" >&2
    exit 1
fi
echo "$root/usr/bin"
