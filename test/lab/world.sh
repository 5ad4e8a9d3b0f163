#!/bin/sh
# world.sh PACKAGES LAYER ROOT CGROUP...
# One lab's private world. This process stays outside of it: it makes the lab's cgroups, starts the world, waits
# for its end and removes the cgroups, also when the test process was killed. Standard input is the lab's life
# line: the world ends when it closes.
set -eu
here=$(dirname "$0")
packages=$1 layer=$2 root=$3
shift 3

for cgroup in "$@"; do
  mkdir "$cgroup"
  parent=$(dirname "$cgroup")
  if [ -e "$cgroup/cgroup.clone_children" ] && [ -e "$cgroup/cpuset.cpus" ]; then
    # v1 cpuset: a cgroup without CPUs and memory nodes takes no process.
    cat "$parent/cpuset.cpus" >"$cgroup/cpuset.cpus"
    cat "$parent/cpuset.mems" >"$cgroup/cpuset.mems"
    echo 1 >"$cgroup/cgroup.clone_children"
  fi
  if [ -e "$cgroup/cgroup.subtree_control" ]; then
    for controller in $(cat "$cgroup/cgroup.controllers"); do
      echo "+$controller" >"$cgroup/cgroup.subtree_control" || true
    done
  fi
  mkdir "$cgroup/world"
done

(
  for cgroup in "$@"; do echo 0 >"$cgroup/world/cgroup.procs"; done
  exec setpriv --pdeathsig KILL \
    unshare --mount --pid --net --uts --ipc --cgroup --propagation private --fork --kill-child \
    sh "$here/world-init.sh" "$packages" "$layer" "$root"
) <&0 || true

# A cgroup can be removed once its last process is gone, which may take the kernel a moment.
tries=100
until find "$@" -depth -type d -delete 2>/dev/null; do
  tries=$((tries - 1))
  [ $tries -gt 0 ] || exit 1
  sleep 0.1
done
