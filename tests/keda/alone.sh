#!/bin/sh
# Runs a command where there is no network but loopback, and where names are as in the cluster: KEDA
# listens on every address that there is, and finds filmgate and itself by their Services' names. To be
# run in network and mount namespaces of its own. Usage: alone.sh FOLDER COMMAND...
set -eu
folder=$1
shift

ip link set lo up
# Kubernetes' servers look for an address that others might reach them at, by the default route.
ip address add 192.0.2.1/32 dev lo
ip route add default dev lo src 192.0.2.1

cat >"$folder/hosts" <<-HOSTS
	127.0.0.1 localhost
	127.0.0.1 filmgate-keda.filmgate.svc
	127.0.0.1 keda-operator.keda.svc.cluster.local
HOSTS
# Nobody answers there, and says so at once.
echo nameserver 127.0.0.1 >"$folder/resolv.conf"
mount --bind "$folder/hosts" /etc/hosts
mount --bind "$folder/resolv.conf" /etc/resolv.conf

exec "$@"
