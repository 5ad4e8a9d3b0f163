#!/bin/sh
# world-init.sh PACKAGES LAYER ROOT
# Process 1 of a lab's world. Its mounts are private: the fetched packages show in /usr, names of network
# namespaces and the hosts' disks are on a tmpfs of its own. LAYER are the packages of the hosts, over ROOT, or over the
# machine's root where that is empty. Its network namespace is the LAN, a bridge named
# lan0. Prints its process id as the machine sees it, and ends with its standard input.
set -eu

mount -t tmpfs -o mode=755,size=75% tmpfs /run
cd /run
mkdir lab lab/fetched lab/layer lab/packages lab/nothing lab/root netns
# Under a name without the characters that are special in an overlay's options.
mount --bind "$1" lab/fetched
mount --bind "$2" lab/layer
if [ -n "$3" ]; then mount --bind "$3" lab/root; fi
if [ -d lab/fetched/usr ]; then
  mount -t overlay -o ro,lowerdir=/run/lab/fetched/usr:/usr overlay /usr
fi
# A file system of its own for the packages: an overlay takes no two layers of which one holds the other, and
# the hosts have the machine's root as a layer. No more than two overlays stack, so on one it is a copy.
if [ "$(stat -f -c %T lab/layer)" = overlayfs ]; then
  cp -a lab/layer/. lab/packages
else
  mount -t overlay -o ro,lowerdir=/run/lab/layer:/run/lab/nothing overlay lab/packages
fi

touch netns/lan
mount --bind /proc/self/ns/net netns/lan
ip link set lo up
ip link add lan0 type bridge
ip link set lan0 up

# /proc is still the machine's, so this is the id there.
read -r pid _ </proc/self/stat
echo "$pid"
exec cat >/dev/null
