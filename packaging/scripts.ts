// What a package does when it is installed and removed. It never touches rules, and never stops a service: setup wrote the services, for
// this host, and `setup --remove` removes them. Pure.

import { PROGRAM_PATH } from "./product.ts";

/** Our units, and those of others' that start the packaged program. */
const UNITS = `grep -lsE '^Exec[A-Za-z]*=[-@:+!]*${PROGRAM_PATH} ' /etc/systemd/system/*.service`;

/**
 * After an installation, an upgrade or a downgrade: a watcher that runs is started anew, with the new program. Its rules stay in the kernel
 * meanwhile, and it begins with what it may have missed. Not waited for: it is ready only once its daemon answers.
 */
export const RESTART_WATCHER = `if [ -d /run/systemd/system ] && ${UNITS} | grep -q /docker_iptables-watch.service; then
  systemctl try-restart --no-block docker_iptables-watch.service || :
fi`;

/** After the removal: what is still set up, and how it is taken away. */
export const TELL_WHAT_IS_LEFT = `units=$(${UNITS} || :)
fragments=$(grep -lsE '^# docker_iptables: .*generated: do not edit' /etc/iptables.d/* /etc/ip6tables.d/* /etc/nftables.d/* || :)
if [ ! -e ${PROGRAM_PATH} ] && [ -n "$units$fragments" ]; then
  echo "docker_iptables is removed. Its rules are still live, and no service was stopped."
  if [ -n "$units" ]; then
    echo "These units start ${PROGRAM_PATH}, which is not there any more:"
    echo "$units" | sed 's/^/  /'
  fi
  if [ -n "$fragments" ]; then
    echo "These fragments are still there:"
    echo "$fragments" | sed 's/^/  /'
  fi
  echo "A watcher that runs goes on until it is stopped. At a boot iptables or nft alone load the host rules, without those of containers."
  echo "To take all of it away, install docker_iptables again, then:"
  case $units in *docker_iptables-watch.service*) echo "  systemctl disable --now docker_iptables-watch.service" ;; esac
  echo "  docker_iptables delete --all"
  echo "  docker_iptables setup --remove"
fi`;
