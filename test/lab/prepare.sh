# Read by boot.sh at a host's first boot, in the host's root: takes out what is the machine's own business, so
# that none of its units, generators or settings is in effect in the host.
rm -rf etc/systemd etc/docker etc/containerd etc/default/docker etc/iptables etc/iptables.d etc/ip6tables.d etc/fstab
rm -rf lib/systemd/system-generators usr/local/bin usr/local/sbin usr/local/lib/systemd
find lib/systemd/system/ -name '*.wants' -prune -exec rm -rf {} +
find lib/systemd/system/ -name '*.requires' -prune -exec rm -rf {} +
rm -rf var/log/journal var/lib/docker var/lib/containerd var/lib/containers
mkdir -p etc/systemd/system/sysinit.target.wants etc/systemd/system/sockets.target.wants
mkdir -p etc/systemd/system/multi-user.target.wants
mkdir -p etc/iptables.d etc/ip6tables.d etc/docker etc/containerd etc/default
mkdir -p usr/local/bin usr/local/sbin
mkdir -p var/lib/docker var/lib/containerd var/lib/containers
units=/lib/systemd/system
enabled=etc/systemd/system
ln -s $units/multi-user.target $enabled/default.target
ln -s $units/systemd-journald.service $units/systemd-tmpfiles-setup.service $enabled/sysinit.target.wants/
ln -s $units/systemd-journald.socket $units/systemd-journald-dev-log.socket $enabled/sockets.target.wants/
# Stories restart the daemon more often than its unit would let them.
mkdir $enabled/docker.service.d
printf '[Unit]\nStartLimitIntervalSec=0\n' >$enabled/docker.service.d/often.conf
if [ "$DOCKER_AT_BOOT" = yes ]; then
  ln -s $units/docker.socket $enabled/sockets.target.wants/
  ln -s $units/docker.service $enabled/multi-user.target.wants/
fi

echo "$HOST_NAME" >etc/hostname
tr -d - </proc/sys/kernel/random/uuid >etc/machine-id
grep -q '^docker:' etc/group || echo 'docker:x:990:' >>etc/group

# Debian's alternatives: the links that the packages' own scripts would have made.
for command in iptables ip6tables; do
  for suffix in '' -save -restore; do
    ln -sfn "/usr/sbin/$command-$BACKEND$suffix" "etc/alternatives/$command$suffix"
    ln -sfn "/etc/alternatives/$command$suffix" "usr/sbin/$command$suffix"
  done
done

touch usr/local/bin/node
cp -r "$HOST_DIRECTORY/seed/." .
