#!/bin/sh
# suite.sh SUITE ROOT MIRROR TOOLS PACKAGE...
# Makes the root file system of a Debian release, with packages set up as on a machine; TOOLS has debootstrap. Runs in
# a mount and a process namespace of its own. The packages' scripts run in ROOT, without a network, and start no daemon.
set -eu
suite=$1 root=$2 mirror=$3 tools=$4
shift 4
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 DEBOOTSTRAP_DIR="$tools/usr/share/debootstrap"

# What is made once, and thrown away where that fails, needs no fsync.
mkdir -p "$root/etc/dpkg/dpkg.cfg.d"
printf 'force-unsafe-io\npath-exclude=/usr/share/doc/*\npath-exclude=/usr/share/locale/*\n' >"$root/etc/dpkg/dpkg.cfg.d/lab"
sh "$tools/usr/sbin/debootstrap" --variant=minbase "$suite" "$root" "$mirror"
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"

# The machine's apt-get downloads, as it knows the way.
apt="apt-get -o Dir=$root -o Dir::State::status=$root/var/lib/dpkg/status -o APT::Sandbox::User=root -qq"
$apt update
$apt --download-only --no-install-recommends --assume-yes install "$@"

mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
unshare --net chroot "$root" apt-get --no-download --no-install-recommends --assume-yes -qq install "$@"
umount --recursive --lazy "$root/dev"
umount "$root/proc"
rm "$root/usr/sbin/policy-rc.d"
rm -f "$root"/var/cache/apt/archives/*.deb
# Else the machine writes all of it to its disk while the first stories run, and some of them stand still for seconds.
sync -f "$root"
