#!/bin/sh
# The first process of a node's own PID and mount namespace: when it ends, the kernel ends
# everything that runs there. Usage: machine.sh FOLDER CGROUP...
set -eu
folder=$1
shift
for cgroup in "$@"; do
    echo 0 >"$cgroup/cgroup.procs"
done

# What kubelet and containerd keep at fixed places is the node's own: device plugins' sockets,
# logs, shims.
mkdir -p "$folder/var-lib/kubelet" "$folder/var-log" "$folder/sysctl"
mount --bind "$folder/var-lib" /var/lib
mount --bind "$folder/var-log" /var/log
mount -t tmpfs none /run

# The kubelet finds these as it wants them, and so leaves the machine's alone.
tune() { # path under /proc/sys, value
    file=$folder/sysctl/$(echo "$1" | tr / .)
    echo "$2" >"$file"
    mount --bind "$file" "/proc/sys/$1"
}
tune vm/overcommit_memory 1
tune vm/panic_on_oom 0
tune kernel/panic 10
tune kernel/panic_on_oops 1
tune kernel/keys/root_maxkeys 1000000
tune kernel/keys/root_maxbytes 25000000

echo ready
while :; do
    sleep 1000 &
    wait
done
