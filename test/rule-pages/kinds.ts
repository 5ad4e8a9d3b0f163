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
      "come from the wire, so without this rule a machine on the same wire that routes 127.0.0.1 to this host reaches the port.",
  },
  {
    table: "raw",
    matches: /^-A PREROUTING -d \S+ ! -i \S+ -j DROP$/,
    form: "-d CONTAINER ! -i BRIDGE -j DROP",
    why:
      "Only what is published is reached. Without this rule a machine on the same wire that routes the container's subnet to this " +
      "host, or a container on another network, addresses the container itself: a port published on one address or on 127.x is open " +
      "there, because the ACCEPT in FORWARD knows only the container's address.",
  },
  {
    table: "nat",
    matches: /^-A PREROUTING -m addrtype --dst-type LOCAL -j /,
    form: "PREROUTING … --dst-type LOCAL -j CHAIN",
    why: "What comes from outside to an address of this host is looked up among the published ports. Without this jump the DNAT rules never match.",
  },
  {
    table: "nat",
    matches: /^-A OUTPUT /,
    form: "OUTPUT … --dst-type LOCAL -j CHAIN",
    why:
      "The same for what this host sends to an address of its own: PREROUTING does not see it. Where docker-proxy runs, it answers on the " +
      "loopback addresses, so they are left out; where it does not, they are not.",
  },
  {
    table: "nat",
    matches: / -j DNAT --to-destination /,
    form: "CHAIN … --dport PORT -j DNAT",
    why:
      "Sends what comes to the published port to the container's address and port. Without it docker-proxy takes the connection, and the " +
      "container sees the bridge's gateway in the place of the client; without docker-proxy nothing answers.",
  },
  {
    table: "nat",
    matches: /^-A POSTROUTING -s \S+ -d \S+ -p \S+ -m \S+ --dport \S+ -j MASQUERADE$/,
    form: "POSTROUTING -s SOURCE -d CONTAINER … -j MASQUERADE",
    why:
      "Without docker-proxy a container that connects to a port that itself publishes would see a packet from its own address, and drop it. " +
      "Where packets between a bridge's ports bypass iptables, its neighbour's answer would go past the address that it asked. The masquerade has " +
      "the answer come back through this host.",
  },
  {
    table: "nat",
    matches: /^-A POSTROUTING -s \S+ ! -o \S+ -j MASQUERADE$/,
    form: "POSTROUTING -s SUBNET ! -o BRIDGE -j MASQUERADE",
    why: "What containers send to the world gets this host's address. Without it the answers, to a private address, never come back.",
  },
  {
    table: "nat",
    matches: /^-A POSTROUTING -o \S+ -m addrtype --src-type LOCAL -j MASQUERADE$/,
    form: "POSTROUTING -o BRIDGE … --src-type LOCAL -j MASQUERADE",
    why:
      "Without docker-proxy what this host sends from 127.0.0.1 to a published port is led to the container, which would answer to its own " +
      "loopback address. It gets the bridge's address instead.",
  },
  {
    table: "filter",
    matches: /^-I FORWARD -j DOCKER-USER$/,
    form: "-I FORWARD -j DOCKER-USER",
    why:
      "Rules of yours, fail2ban's or crowdsec's are asked before anything else. The rule is inserted, so that no fragment comes before it, and " +
      "stands before the ACCEPT of answers, so that a ban also ends a connection that stands.",
  },
  {
    table: "filter",
    matches: /^-A FORWARD (?:! -i (\S+) -o \1|-i (\S+) ! -o \2) -j DROP$/,
    form: "FORWARD ! -i BRIDGE -o BRIDGE -j DROP",
    why:
      "Of a network: what enters it and was not accepted before is not published, whoever sends it. Of an internal network, in both directions and " +
      "before the containers' ACCEPTs: nothing crosses its border. Without it every port of every container is open to who routes to it.",
  },
  {
    table: "filter",
    matches: /--ctstate RELATED,ESTABLISHED/,
    form: "FORWARD -o BRIDGE … --ctstate RELATED,ESTABLISHED -j ACCEPT",
    why: "Answers to what containers have asked come in. Without it they are dropped by the network's DROP below.",
  },
  {
    table: "filter",
    matches: /^-A FORWARD -d \S+ ! -i (\S+) -o \1 -p .* -j ACCEPT$/,
    form: "FORWARD -d CONTAINER … --dport PORT -j ACCEPT",
    why: "Lets in what the DNAT has sent to the container's port. Without it the network's DROP below, or a policy DROP, ends each connection.",
  },
  {
    table: "filter",
    matches: /^-A FORWARD ! -i (\S+) -o \1 -j ACCEPT$/,
    form: "FORWARD ! -i BRIDGE -o BRIDGE -j ACCEPT",
    why: "The network's gateway mode is `nat-unprotected`: its owner wants unpublished ports to be reached by who routes to them.",
  },
  {
    table: "filter",
    matches: /^-A FORWARD -i (\S+) -o \1 -j DROP$/,
    form: "FORWARD -i BRIDGE -o BRIDGE -j DROP",
    why: "The network has `enable_icc=false`: its containers do not talk to each other. Without it they do.",
  },
  {
    table: "filter",
    matches: /^-A FORWARD -i \S+ -j ACCEPT$/,
    form: "FORWARD -i BRIDGE -j ACCEPT",
    why:
      "Containers may begin connections, where FORWARD's policy is DROP or a fragment behind refuses the rest. It stands behind the DROPs of all " +
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
