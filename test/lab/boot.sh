#!/bin/sh
# Process 1 of a host until systemd takes its place: plugs the host into the LAN, mounts its root (the machine's
# own root, or a release's, below, then the fetched packages, then the host's disk) and makes it /. Prints its process id as the
# machine sees it. Kernel settings outside /proc/sys/net and devices are out of the host's reach: they are the
# machine's.
set -eu
here=$(dirname "$0")
root=$HOST_DIRECTORY/root
read -r pid _ </proc/self/stat

hostname "$HOST_NAME"
# A bridge's IPv6 address is in use at once, not after the second or two of looking for duplicates.
echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad
ip link add eth0 address "$MAC" type veth peer name "$LAN_PORT" netns lan
ip -n lan link set "$LAN_PORT" master lan0 up
ip link set lo up
ip link set eth0 "$LAN"
ip address add "$ADDRESS" dev eth0
ip address add "$ADDRESS6" dev eth0 nodad

mount -t overlay -o "lowerdir=/run/lab/packages:$ROOT,upperdir=$HOST_DIRECTORY/upper,workdir=$HOST_DIRECTORY/work" overlay "$root"
cd "$root"
if [ ! -e "$HOST_DIRECTORY/prepared" ]; then
  . "$here/prepare.sh"
  touch "$HOST_DIRECTORY/prepared"
fi
# Overlay on overlay fails, so what holds containers is on the disk's tmpfs itself.
for store in docker containerd containers; do mount --bind "$HOST_DIRECTORY/$store" "var/lib/$store"; done
# A release has its own.
if [ "$ROOT" = / ]; then mount --bind "$NODE" usr/local/bin/node; fi

mount -t proc -o nosuid,nodev,noexec proc proc
mount --bind proc/sys proc/sys
mount --bind proc/sys/net proc/sys/net
# Each boot has an id of its own, as on a machine.
cat proc/sys/kernel/random/uuid >"$HOST_DIRECTORY/boot_id"
mount --bind "$HOST_DIRECTORY/boot_id" proc/sys/kernel/random/boot_id
mount -o remount,bind,ro proc/sys
if [ -e proc/sysrq-trigger ]; then mount --bind /dev/null proc/sysrq-trigger; fi
mount -t sysfs -o nosuid,nodev,noexec,ro sysfs sys
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp

mount -t tmpfs -o mode=755,nosuid tmpfs dev
mknod -m 666 dev/null c 1 3
mknod -m 666 dev/zero c 1 5
mknod -m 666 dev/full c 1 7
mknod -m 666 dev/random c 1 8
mknod -m 666 dev/urandom c 1 9
mknod -m 666 dev/tty c 5 0
mkdir dev/pts dev/shm dev/mqueue
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs dev/shm
mount -t mqueue mqueue dev/mqueue
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s /proc/self/fd/0 dev/stdin
ln -s /proc/self/fd/1 dev/stdout
ln -s /proc/self/fd/2 dev/stderr

# Cgroups: inside the cgroup namespace each new mount shows the host's own part only. systemd from 256 on wants the second
# version alone, and Debian 12's takes it, too.
if [ "$ROOT" = / ] && grep -qv '^0:' proc/self/cgroup; then
  mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
  while IFS=: read -r number controllers _; do
    case $number:$controllers in
      0:) name=unified type=cgroup2 options=rw ;;
      *:name=*) name=${controllers#name=} type=cgroup options=none,$controllers ;;
      *) name=$controllers type=cgroup options=$controllers ;;
    esac
    mkdir "sys/fs/cgroup/$name"
    mount -t "$type" -o "$options" cgroup "sys/fs/cgroup/$name"
  done <proc/self/cgroup
else
  mount -t cgroup2 cgroup2 sys/fs/cgroup
fi

pivot_root . mnt
umount -l /mnt
echo "$pid"
export container=lab
exec /lib/systemd/systemd --system </dev/null >/dev/null 2>&1
