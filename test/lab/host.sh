#!/bin/sh
# host.sh CGROUP...
# Starts a host: moves to cgroups of its own and into fresh namespaces, where boot.sh runs as process 1.
# Reads HOST_NAME, HOST_DIRECTORY, LAN_PORT and what boot.sh reads from the environment.
set -eu
here=$(dirname "$0")

# What a power cut left: the old end of the cable, the old cgroups.
ip link del "$LAN_PORT" 2>/dev/null || true
for cgroup in "$@"; do
  [ -d "$cgroup/$HOST_NAME" ] && find "$cgroup/$HOST_NAME" -depth -type d -delete
  mkdir "$cgroup/$HOST_NAME"
  echo 0 >"$cgroup/$HOST_NAME/cgroup.procs"
done

exec unshare --mount --pid --net --uts --ipc --cgroup --propagation private --fork --kill-child sh "$here/boot.sh"
