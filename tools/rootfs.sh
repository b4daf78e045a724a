#!/usr/bin/env bash
# Lays out the files of an image that has one program: what that needs, and no shell.
# Usage: tools/rootfs.sh PROGRAM FOLDER
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
program=$1
root=$2

# NVIDIA's driver library, which its container runtime brings, is linked to these beside what
# filmgate is linked to.
readonly driver_needs=(libm.so.6 libdl.so.2 libpthread.so.0 librt.so.1)

fail() {
    echo "tools/rootfs.sh: $*" >&2
    exit 1
}

libraries() {
    # Each line is `name => path (address)`, or the loader's path alone.
    ldd "$program" 2>/dev/null | grep -o '/[^ ]*' || true
}

# As in Debian, /lib and the like are links into /usr.
in_usr() { # path
    case $1 in
    /usr/*) echo "$1" ;;
    *) echo "/usr$1" ;;
    esac
}

put() { # file, path in the image, mode
    install -D -m "$3" "$1" "$root$2"
}

# Who made a file: its version for scanners, its licence for everyone.
put_package_of() { # file
    command -v dpkg-query >/dev/null || return 0
    local package
    package=$(dpkg-query -S "$1" 2>/dev/null || dpkg-query -S "$(in_usr "$1")" 2>/dev/null) ||
        return 0
    package=${package%%:*}
    mkdir -p "$root/var/lib/dpkg/status.d"
    dpkg-query -s "$package" >"$root/var/lib/dpkg/status.d/$package"
    put "/usr/share/doc/$package/copyright" "/usr/share/doc/$package/copyright" 644
}

[ ! -e "$root" ] || fail "$root is there already"
mkdir -p "$root"/{etc,usr/bin,usr/lib,usr/lib64}
for name in bin lib lib64; do
    ln -s "usr/$name" "$root/$name"
done

name=$(basename "$program")
put "$program" "/usr/bin/$name" 755
strip --strip-debug "$root/usr/bin/$name"
put "$project/LICENSE" "/usr/share/doc/$name/LICENSE" 644

mapfile -t needed < <(libraries)
for library in "${needed[@]}"; do
    case $library in
    */libc.so.6) needed+=("${driver_needs[@]/#/${library%/*}/}") ;;
    esac
done
for library in "${needed[@]}"; do
    put "$library" "$(in_usr "$library")" 755
    put_package_of "$library"
done

# By debian_version NVIDIA's runtime knows where this C library looks for others.
put /etc/os-release /usr/lib/os-release 644
ln -s ../usr/lib/os-release "$root/etc/os-release"
[ ! -e /etc/debian_version ] || put /etc/debian_version /etc/debian_version 644

# Those of the package alone: a machine's own have no place in an image.
authorities=(/usr/share/ca-certificates/mozilla/*.crt)
[ -e "${authorities[0]}" ] || fail "no root certificates: install ca-certificates"
mkdir -p "$root/etc/ssl/certs"
cat "${authorities[@]}" >"$root/etc/ssl/certs/ca-certificates.crt"
put_package_of "${authorities[0]}"

cat >"$root/etc/passwd" <<'PASSWD'
root:x:0:0:root:/root:/sbin/nologin
nonroot:x:65532:65532:nonroot:/nonexistent:/sbin/nologin
PASSWD
cat >"$root/etc/group" <<'GROUP'
root:x:0:
nonroot:x:65532:
GROUP
echo "hosts: files dns" >"$root/etc/nsswitch.conf"
chmod -R u=rwX,go=rX "$root"
