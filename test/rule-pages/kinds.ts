// The kinds of rules that fragments have, and why each is there. A rule of no kind, or of two, stops the pages from being made: a
// new kind of rule needs a reason. Pure.

interface Kind {
  table: string;
  /** Of a rule without its comment. */
  matches: RegExp;
  /** The rule in general, as the pages name it. */
  form: string;
  /** What breaks without it. */
  why: string;
}

/** In the order in which a packet meets them. */
export const KINDS: readonly Kind[] = [
  {
    table: "raw",
    matches: /^-A PREROUTING -d \S+ ! -i lo -p /,
    form: "-d 127.x ! -i lo … --dport PORT -j DROP",
    why:
      "A port published on 127.x is for this host only. The DNAT takes place before the kernel refuses loopback addresses that " +
      "come from outside, so without this rule an on-link host that routes 127.0.0.1 to this host reaches the port.",
  },
  {
    table: "raw",
    matches: /^-A PREROUTING -d \S+ -i \S+ -j ACCEPT$/,
    form: "-d CONTAINER -i INTERFACE -j ACCEPT",
    why:
      "The network trusts this interface (`trusted_host_interfaces`, Docker 28.2): who comes by it may address the container's published ports directly. Without " +
      "it the next rule drops that.",
  },
  {
    table: "raw",
    matches: /^-A PREROUTING -d \S+ ! -i \S+ -j DROP$/,
    form: "-d CONTAINER ! -i BRIDGE -j DROP",
    why:
      "Only published ports are reached. Without this rule an on-link host that routes the container's subnet to this " +
      "host, or a container on another network, can address the container directly, and then a port published on one address or on 127.x is open " +
      "to it, because the ACCEPT in FORWARD matches only the container's address.",
  },
  {
    table: "mangle",
    matches: /^-A FORWARD -d \S+ ! -i (\S+) -o \1 -p .* --ctorigdstport \S+ --ctdir ORIGINAL -j ALLOW-/,
    form: "FORWARD -d CONTAINER … --ctstate DNAT --ctorigdstport PORT --ctdir ORIGINAL -j ALLOW-…",
    why:
      "Asks the list of a port of the host about each packet that the DNAT sends from there to the container, those of connections that stand included. conntrack " +
      "knows to which port a connection came: two that lead to one container port have lists of their own. Without it everyone reaches the port.",
  },
  {
    table: "mangle",
    matches: /^-A FORWARD -s \S+ -i (\S+) ! -o \1 -p udp .* --ctorigdstport \S+ --ctdir REPLY -j ALLOW-/,
    form: "FORWARD -s CONTAINER … --ctstate DNAT --ctorigdstport PORT --ctdir REPLY -j ALLOW-…",
    why:
      "Over UDP, where nothing is acknowledged: without it the container goes on sending to who was allowed before. There is none where the list names an " +
      "interface, because the answers do not say by which one somebody came.",
  },
  {
    table: "mangle",
    matches: /^-A FORWARD -d \S+ ! -i (\S+) -o \1 -p .* --dport \S+ .* ! --ctstate DNAT --ctdir ORIGINAL -j ALLOW-/,
    form: "FORWARD -d CONTAINER … --dport PORT … ! --ctstate DNAT --ctdir ORIGINAL -j ALLOW-…",
    why:
      "Where the network routes, others connect to the container's own port: this asks its list about each packet of theirs. Without it everyone " +
      "reaches the port.",
  },
  {
    table: "mangle",
    matches: /^-A FORWARD -s \S+ -i (\S+) ! -o \1 -p udp .* --sport \S+ .* ! --ctstate DNAT --ctdir REPLY -j ALLOW-/,
    form: "FORWARD -s CONTAINER … --sport PORT … ! --ctstate DNAT --ctdir REPLY -j ALLOW-…",
    why: "The same for its answers over UDP. Without it they go on to who was allowed before.",
  },
  {
    table: "mangle",
    matches: /^-A FORWARD -d \S+ ! -i (\S+) -o \1 -p .* ! --ctstate DNAT.* -j DROP$/,
    form: "FORWARD -d CONTAINER … --dport PORT … ! --ctstate DNAT -j DROP",
    why:
      "For container ports to which a port with a list leads, also with `guards: false`: without it a host that addresses the container directly, and has not come " +
      "through the port of the host, goes round the list.",
  },
  {
    table: "mangle",
    matches: /^-A INPUT .*-p .* --dport \S+ -j ALLOW-/,
    form: "INPUT ! -i BRIDGE … --dport PORT -j ALLOW-…",
    why:
      "Asks the list about what no DNAT takes, and docker-proxy would answer: IPv6 without `ipv6: true`, and connections that docker-proxy holds from before " +
      "the rules. Without it docker-proxy is a way round the list.",
  },
  {
    table: "mangle",
    matches: /^-A OUTPUT .*-p udp -m udp --sport \S+ -j ALLOW-/,
    form: "OUTPUT ! -o BRIDGE … --sport PORT -j ALLOW-…",
    why:
      "The same for docker-proxy's answers over UDP. Without it they go on to who was allowed before. conntrack is not asked: of a flow that it sees from the middle " +
      "on, it may take the answer for the first packet.",
  },
  {
    table: "mangle",
    matches: /^-A ALLOW-\S+ -[io] lo -j RETURN$/,
    form: "ALLOW-… -i lo -j RETURN",
    why: "The host itself is not asked: what it sends to its own addresses goes by `lo`. Without it the host does not reach the port through docker-proxy.",
  },
  {
    table: "mangle",
    matches: /^-A ALLOW-\S+ (?:-[sd] \S+|-[io] (?!lo )\S+|-s \S+ -i (?!lo )\S+) -j RETURN$/,
    form: "ALLOW-… -s SOURCE -j RETURN",
    why:
      "One for each source of the list, in the chain of the list (over UDP `-d` in that of the answers). It only leaves the chain: the filter table, DOCKER-USER and " +
      "rules of your own go on to decide.",
  },
  {
    table: "mangle",
    matches: /^-A ALLOW-\S+ -j DROP$/,
    form: "ALLOW-… -j DROP",
    why: "What no source of the list has matched is dropped. Without it the list would say nothing.",
  },
  {
    table: "nat",
    matches: /^-A PREROUTING -m addrtype --dst-type LOCAL -j /,
    form: "PREROUTING … --dst-type LOCAL -j CHAIN",
    why: "Sends packets from outside to an address of this host through the published ports. Without this jump the DNAT rules never match.",
  },
  {
    table: "nat",
    matches: /^-A OUTPUT /,
    form: "OUTPUT … --dst-type LOCAL -j CHAIN",
    why:
      "The same for what this host sends to an address of its own, which does not pass PREROUTING. If docker-proxy runs, it serves the " +
      "loopback addresses, so they are excepted; if not, they are included.",
  },
  {
    table: "nat",
    matches: / -j DNAT --to-destination /,
    form: "CHAIN … --dport PORT -j DNAT",
    why:
      "Redirects packets for the published port to the container's address and port. Without it docker-proxy accepts the connection, and the " +
      "container sees the bridge's gateway instead of the client; without docker-proxy nothing answers.",
  },
  {
    table: "nat",
    matches: /^-A POSTROUTING -s \S+ -d \S+ -p \S+ -m \S+ --dport \S+ -j MASQUERADE$/,
    form: "POSTROUTING -s SOURCE -d CONTAINER … -j MASQUERADE",
    why:
      "Without docker-proxy a container that connects to a port that it publishes itself would see a packet from its own address, and drop it. " +
      "Where packets between a bridge's ports bypass iptables, the reply of another container on it would come from another address than the client connected to. With the masquerade " +
      "the reply returns through this host.",
  },
  {
    table: "nat",
    matches: /^-A POSTROUTING -s \S+ ! -o \S+ -j MASQUERADE$/,
    form: "POSTROUTING -s SUBNET ! -o BRIDGE -j MASQUERADE",
    why: "Packets from containers to other networks get this host's address. Without it the replies, to a private address, never return.",
  },
  {
    table: "nat",
    matches: /^-A POSTROUTING (?:-s \S+ ! -o \S+|-o \S+ -m addrtype --src-type LOCAL) -j SNAT --to-source \S+$/,
    form: "POSTROUTING … -j SNAT --to-source ADDRESS",
    why:
      "The network has `host_ipv4` or `host_ipv6`: in the place of a MASQUERADE, below and above, its packets get this address of the host's. Without it others see another one " +
      "than the network's owner has told them.",
  },
  {
    table: "nat",
    matches: /^-A POSTROUTING -o \S+ -m addrtype --src-type LOCAL -j MASQUERADE$/,
    form: "POSTROUTING -o BRIDGE … --src-type LOCAL -j MASQUERADE",
    why:
      "Without docker-proxy what this host sends from 127.0.0.1 to a published port is redirected to the container, which would reply to its own " +
      "loopback address. The source becomes the bridge's address instead.",
  },
  {
    table: "filter",
    matches: /^-I FORWARD -j DOCKER-USER$/,
    form: "-I FORWARD -j DOCKER-USER",
    why:
      "Your own rules, fail2ban's and crowdsec's come before all others. The jump is inserted, so that no fragment comes before it, and " +
      "is before the ACCEPT of replies, so that a ban also ends an established connection.",
  },
  {
    table: "filter",
    matches: /^-A FORWARD (?:! -i (\S+) -o \1|-i (\S+) ! -o \2) -j DROP$/,
    form: "FORWARD ! -i BRIDGE -o BRIDGE -j DROP",
    why:
      "For a network: packets into it that were not accepted before are not for a published port. For an internal network, in both directions and " +
      "before the containers' ACCEPTs: nothing crosses its border. Without it every port of every container is open to any host that routes to it.",
  },
  {
    table: "filter",
    matches: /--ctstate RELATED,ESTABLISHED/,
    form: "FORWARD -o BRIDGE … --ctstate RELATED,ESTABLISHED -j ACCEPT",
    why: "Replies to containers are accepted. Without it they are dropped by the network's DROP below.",
  },
  {
    table: "filter",
    matches: /^-A FORWARD -d \S+ ! -i (\S+) -o \1 -p .* -j ACCEPT$/,
    form: "FORWARD -d CONTAINER … --dport PORT -j ACCEPT",
    why: "Accepts what the DNAT has redirected to the container's port, or what comes to that port where the network routes. Without it the network's DROP below, or a policy DROP, blocks each connection.",
  },
  {
    table: "filter",
    matches: /^-A FORWARD -o \S+ -p (?:icmp|ipv6-icmp) -j ACCEPT$/,
    form: "FORWARD -o BRIDGE -p icmp -j ACCEPT",
    why: "The network's gateway mode is `routed`: its containers are hosts like others, and answer ICMP. Without it the network's DROP below takes echo requests and errors.",
  },
  {
    table: "filter",
    matches: /^-A FORWARD ! -i (\S+) -o \1 -j ACCEPT$/,
    form: "FORWARD ! -i BRIDGE -o BRIDGE -j ACCEPT",
    why: "The network's gateway mode is `nat-unprotected`: unpublished ports are meant to be reached by hosts that route to them.",
  },
  {
    table: "filter",
    matches: /^-A FORWARD -i (\S+) -o \1 -j DROP$/,
    form: "FORWARD -i BRIDGE -o BRIDGE -j DROP",
    why: "The network has `enable_icc=false`: its containers must not reach each other. Without it they do.",
  },
  {
    table: "filter",
    matches: /^-A FORWARD -i \S+ -j ACCEPT$/,
    form: "FORWARD -i BRIDGE -j ACCEPT",
    why:
      "Containers may open connections, also if FORWARD's policy is DROP or a later fragment rejects the rest. It is behind the DROPs of all " +
      "networks: before one of them it would open that network's unpublished ports to the others' containers.",
  },
];

/** Those of a fragment's rules. Throws Error for a rule that has no kind, or several. */
export function kindsIn(fragment: string): Set<Kind> {
  const found = new Set<Kind>();
  let table = "";
  for (const line of fragment.split("\n")) {
    if (line.startsWith("*")) table = line.slice(1);
    if (!line.startsWith("-")) continue;
    const bare = line.replace(/ -m comment --comment "[^"]*"/, "");
    const [kind, ...others] = KINDS.filter((one) => one.table === table && one.matches.test(bare));
    if (kind === undefined || others.length > 0)
      throw new Error(`which kind of rule is this, and why? *${table} ${bare}`);
    found.add(kind);
  }
  return found;
}
