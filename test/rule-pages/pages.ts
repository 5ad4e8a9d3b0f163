// Which configuration is on which page of docs/rules, and what is to be said of it. The rules themselves are those of the golden
// cases (test/cases, test/host-cases).

export interface Example {
  /** The name of a case. */
  name: string;
  /** What it shows, as a heading; "" on a page of one example. */
  title: string;
  /** The commands that start the container, and connect it, or a few lines of a daemon's or a network's settings. */
  shell: string;
  /** What is special, and why the rules are as they are. */
  says: string;
}

export interface Page {
  /** Its file in docs/rules, without its ending. */
  file: string;
  title: string;
  about: string;
  of: "container" | "host";
  examples: Example[];
}

const RUN = "docker run --detach --name web";

export const PAGES: readonly Page[] = [
  {
    file: "one-port",
    title: "One port",
    about: "The default network, and a port published on every address of the host.",
    of: "container",
    examples: [
      {
        name: "recorded-docker-default",
        title: "",
        shell: `${RUN} --publish 8080:80 IMAGE`,
        says: "One rule in each of three tables. The binding on `::` is the same publish on IPv6; without `--ipv6` it is docker-proxy's ([IPv6](ipv6.md)).",
      },
    ],
  },
  {
    file: "port-range",
    title: "A range of ports",
    about: "Contiguous ports are one rule, however many they are. Inspect lists each separately, in no order.",
    of: "container",
    examples: [
      {
        name: "ports-range",
        title: "The same ports inside",
        shell: `${RUN} --publish 998-1001:998-1001 IMAGE`,
        says: "A destination without a port keeps the packet's own.",
      },
      {
        name: "ports-range-moved",
        title: "Other ports inside",
        shell: `${RUN} --publish 8000-8002:80-82 IMAGE`,
        says: "`80-82/8000` maps them one to one: 8000 to 80, 8001 to 81. `80-82` alone does not.",
      },
    ],
  },
  {
    file: "several-addresses",
    title: "Several addresses of the host",
    about: "A port published on one address matches that address only (`-d`).",
    of: "container",
    examples: [
      {
        name: "ports-several-bindings",
        title: "One container port, published three times",
        shell: `${RUN} --publish 192.0.2.10:80:80 --publish 198.51.100.4:80:80 --publish 8080:80 IMAGE`,
        says: "A DNAT for each, and one ACCEPT, because all of them lead to port 80 of the container.",
      },
      {
        name: "ports-one-port-two-containers-ports",
        title: "One host port, another container port on one address",
        shell: `${RUN} --publish 8080:80 --publish 192.0.2.10:8080:81 IMAGE`,
        says: "The first rule that matches decides, so the rules for one address come before those for every address.",
      },
    ],
  },
  {
    file: "loopback",
    title: "Ports on 127.x",
    about:
      "A port published on a loopback address is reached from this host only, also if an on-link host routes the address to this host.",
    of: "container",
    examples: [
      {
        name: "ports-loopback",
        title: "On 127.0.0.1",
        shell: `${RUN} --publish 127.0.0.1:8080:80 IMAGE`,
        says: "docker-proxy serves 127.0.0.1. The DNAT is there nevertheless, as Docker makes it. The first rule is kept with `guards: false`.",
      },
      {
        name: "ports-loopback-other",
        title: "On another address of 127.0.0.0/8, with another protocol on every address",
        shell: `${RUN} --publish 127.0.0.53:53:53/udp --publish 53:53 IMAGE`,
        says: "The protocols are independent: TCP stays open to everybody.",
      },
      {
        name: "ports-loopback-ipv6",
        title: "On ::1",
        shell: `${RUN} --publish [::1]:8080:80 IMAGE`,
        says: "The kernel itself drops what comes to ::1 from another interface than lo, so there is no rule for it in `raw`.",
      },
    ],
  },
  {
    file: "udp-and-sctp",
    title: "UDP and SCTP",
    about:
      "Rules as for TCP. A DNAT rule decides on a flow's first packet only: after a load the stale flows of the UDP publishes that changed are " +
      "deleted with `conntrack`.",
    of: "container",
    examples: [
      {
        name: "ports-udp-and-tcp",
        title: "One port with two protocols",
        shell: `${RUN} --publish 53:53 --publish 53:53/udp IMAGE`,
        says: "A rule for each protocol, TCP first.",
      },
      {
        name: "ports-sctp",
        title: "SCTP",
        shell: `${RUN} --publish 3868:3868/sctp IMAGE`,
        says: "",
      },
    ],
  },
  {
    file: "ipv6",
    title: "IPv6",
    about:
      "IPv6 rules are made with `ipv6: true`, to the container's own IPv6 address; each family has its fragment, in its directory.",
    of: "container",
    examples: [
      {
        name: "docker-29",
        title: "With `--ipv6`",
        shell: `${RUN} --publish 8080:80 IMAGE`,
        says:
          "The same rules in both families. A link-local client (`fe80::/10`) is left out of the DNAT, as Docker does: the reply would leave by another " +
          "interface. The option is in both heads, for later calls that do not name the container.",
      },
      {
        name: "docker-20.10-ipv6-not-asked",
        title: "Without `--ipv6`",
        shell: `${RUN} --publish 8080:80 IMAGE`,
        says: "docker-proxy serves IPv6 clients, and the container sees docker-proxy's address. A port published on IPv6 only gets no rule, and a warning.",
      },
      {
        name: "docker-28-families-apart",
        title: "Each family through another network (Docker 28)",
        shell: `${RUN} --network six --network name=four,gw-priority=10 --publish 8080:80 IMAGE`,
        says:
          "From Docker 28 on each family goes to the first network that has its gateway. `four`, of the highest `GwPriority`, has no IPv6 " +
          "gateway, so IPv6 is published through `six`. Before 28 one network published both.",
      },
    ],
  },
  {
    file: "allow",
    title: "Who may connect",
    about:
      "A list of sources for a port: its rules are in the mangle table, and the sources in a chain of the list's own, whose name is a hash. What a list is, and which " +
      "one decides: [Who may connect](../who-may-connect.md).",
    of: "container",
    examples: [
      {
        name: "allow",
        title: "A subnet and an interface, for one of two ports",
        shell: `${RUN} --publish 8080:80 --publish 8081:80 IMAGE`,
        says:
          "8081 stays open to everyone, though both lead to port 80 of the container. Without `--ipv6` there is an IPv6 fragment all the same: docker-proxy answers " +
          "IPv6, so its list is asked in INPUT. It has the interface alone: a subnet of IPv4 is no source of IPv6.",
      },
      {
        name: "allow-ipv6",
        title: "Both families, all ports, with `--ipv6`",
        shell: `${RUN} --publish 8080:80 IMAGE`,
        says: "Each family has the sources of its own.",
      },
      {
        name: "allow-ipv6-not-asked",
        title: "A container with an IPv6 address, without `--ipv6`",
        shell: `${RUN} --publish 8080:80 IMAGE`,
        says: "Nothing leads to that address, and what is sent there itself is dropped for the port with the list, with guards and without.",
      },
      {
        name: "allow-nobody",
        title: "No other machine, for a range, with `--no-guards`",
        shell: `${RUN} --publish 8000-8002:80-82 IMAGE`,
        says:
          "An empty list: only the host itself, and the container's own network. Contiguous ports are one rule. What addresses the container directly is dropped for " +
          "these ports though the guards are off.",
      },
      {
        name: "allow-range",
        title: "Another list for one port of a range",
        shell: `${RUN} --publish 8000-8003:80-83 IMAGE`,
        says:
          "A DNAT has ports of one list alone: where a flow's way to a container port is taken, the kernel takes another port of the DNAT's range, and so another " +
          "list's.",
      },
      {
        name: "allow-udp",
        title: "UDP, on one address of the host",
        shell: `${RUN} --publish 192.0.2.10:53:53/udp IMAGE`,
        says: "The answers are restricted, too, by a second chain, which has the sources as destinations.",
      },
      {
        name: "allow-label",
        title: "Labels",
        shell: `${RUN} --publish 8080:80 --publish 8443:443 --label docker_iptables.allow=10.0.0.0/8 --label "docker_iptables.allow.8443/tcp=10.20.0.0/16, 10.30.0.7" IMAGE`,
        says: "The more exact label decides about its port, alone.",
      },
      {
        name: "allow-label-unreadable",
        title: "A label that cannot be read",
        shell: `${RUN} --publish 8080:80 --label docker_iptables.allow.8080=office.example.com IMAGE`,
        says: "A host name is no source. Whom the label was to keep out is not let in: the ports are closed to other machines.",
      },
    ],
  },
  {
    file: "user-defined-network",
    title: "A user-defined network",
    about:
      "The bridge is the one that the network's document names, else `br-` and twelve digits of its id; never one that only has a matching address.",
    of: "container",
    examples: [
      {
        name: "recorded-docker-user-defined",
        title: "A network without options",
        shell: `docker network create app\n${RUN} --network app --publish 8080:80 IMAGE`,
        says: "With compose it is the same: it makes a network for each project. After a new network, `docker_iptables setup` adds the rules that it needs.",
      },
      {
        name: "network-bridge-named",
        title: "A bridge with a name",
        shell: `docker network create --opt com.docker.network.bridge.name=br-front front\n${RUN} --network front --publish 8080:80 IMAGE`,
        says: "",
      },
    ],
  },
  {
    file: "several-networks",
    title: "Several networks",
    about:
      "One network publishes, the one that Docker would choose; the container's addresses in the others get a DROP each; otherwise its ports would be open there.",
    of: "container",
    examples: [
      {
        name: "docker-20.10-several-networks",
        title: "Docker's own choice before 28: the first by name",
        shell: `${RUN} --network front --publish 8080:80 IMAGE\ndocker network connect back web`,
        says: "Networks with gateways of both families come first, then the name decides, bytewise.",
      },
      {
        name: "docker-28-gateway-priority",
        title: "Docker 28 and later: the highest `gw-priority`",
        shell: `${RUN} --network name=alpha,gw-priority=-1 --network name=omega,gw-priority=1 --publish 8080:80 IMAGE`,
        says: "The priority comes before the number of gateways and before the name.",
      },
      {
        name: "network-asked-for",
        title: "The one that `network` names",
        shell: `${RUN} --network front --publish 8080:80 IMAGE\ndocker network connect back web`,
        says: "The option stays in the head until a call by name gives another; `network: auto` is Docker's own choice, given explicitly.",
      },
    ],
  },
  {
    file: "internal-network",
    title: "An internal network and another one",
    about:
      "An internal network never publishes. Its border is closed by the host's rules ([host](host.md)), whatever `guards` says.",
    of: "container",
    examples: [
      {
        name: "network-internal-beside",
        title: "",
        shell: `docker network create --internal back\n${RUN} --network back --publish 8080:80 IMAGE\ndocker network connect front web`,
        says: "`back` is the first by name, and is skipped; the container's address there gets its DROP.",
      },
    ],
  },
  {
    file: "network-options",
    title: "Options of networks",
    about:
      "What Docker 28 and 29 make of `com.docker.network.*`, read from the network's document. A value that Docker would not accept opens nothing, and there is a warning. " +
      "What an option asks of the host's rules (`host_ipv4`, `enable_icc`, `enable_ip_masquerade`, ICMP) is on their page ([host](host.md)). With `enable_ip_masquerade=false` the DROP of a container's own " +
      "address also takes the replies to what the container sends elsewhere, as Docker's does from 28 on: such a network needs a gateway mode, or its containers `guards: false`.",
    of: "container",
    examples: [
      {
        name: "network-trusted",
        title: "Trusted interfaces (Docker 28.2)",
        shell: `docker network create --opt com.docker.network.bridge.trusted_host_interfaces=eth0:eth1 net\n${RUN} --network net --publish 8080:80 IMAGE`,
        says: "Who comes by one of them reaches the published port at the container's own address, too; the others do not.",
      },
      {
        name: "network-unprotected",
        title: "Gateway mode nat-unprotected",
        shell: `docker network create --opt com.docker.network.bridge.gateway_mode_ipv4=nat-unprotected net\n${RUN} --network net --publish 8080:80 IMAGE`,
        says: "No address is closed, and the host's rules accept what enters the network: all ports of its containers are open to who routes to them.",
      },
      {
        name: "network-routed",
        title: "Gateway mode routed",
        shell: `docker network create --opt com.docker.network.bridge.gateway_mode_ipv4=routed net\n${RUN} --network net --publish 80 --publish 53/udp IMAGE`,
        says:
          "No port of the host is published, and nothing is translated or masqueraded: others route the subnet to this host, and connect to the container's own address. What inspect " +
          'lists with `"HostPort": ""` is accepted there.',
      },
      {
        name: "network-routed-ipv6",
        title: "Both families routed, with `--ipv6`",
        shell:
          "docker network create --ipv6 --opt com.docker.network.bridge.gateway_mode_ipv4=routed --opt com.docker.network.bridge.gateway_mode_ipv6=routed net\n" +
          `${RUN} --network net --publish 80 IMAGE`,
        says: "Without `--ipv6` nobody reaches the IPv6 address, because docker-proxy does not serve it; there is a warning.",
      },
      {
        name: "network-routed-beside",
        title: "A routed network beside another one, and a list",
        shell:
          "docker network create --opt com.docker.network.bridge.gateway_mode_ipv4=routed net\ndocker network create plain\n" +
          `${RUN} --network name=plain,gw-priority=1 --network net --publish 8080:80 IMAGE\ndocker_iptables create web --allow 8080=10.0.0.0/8`,
        says: "The port is open at both; a list for the port of the host closes the container's own port, because it is a way round the list.",
      },
      {
        name: "network-routed-allow",
        title: "Lists where the network routes",
        shell:
          `docker network create --opt com.docker.network.bridge.gateway_mode_ipv4=routed net\n${RUN} --network net --publish 80 --publish 443 --publish 53/udp IMAGE\n` +
          "docker_iptables create web --allow 80/tcp=10.0.0.0/8 --allow 53/udp=10.0.0.0/8",
        says: "The key names the container's port, because that is the one that others connect to.",
      },
      {
        name: "network-trusted-allow",
        title: "A list is the last word",
        shell:
          `docker network create --opt com.docker.network.bridge.trusted_host_interfaces=eth0 net\n${RUN} --network net --publish 8080:80 IMAGE\n` +
          "docker_iptables create web --allow 8080/tcp=10.0.0.0/8",
        says: "Nobody goes round it by the container's own address, whatever the network trusts or lets in.",
      },
      {
        name: "network-options-unreadable",
        title: "Values that no daemon accepts",
        shell: `${RUN} --network net --publish 8080:80 IMAGE`,
        says: "Each is told, and opens nothing.",
      },
    ],
  },
  {
    file: "overlay-network",
    title: "An overlay network",
    about:
      "Docker publishes the ports of containers on overlay networks through `docker_gwbridge`, a bridge of this host.",
    of: "container",
    examples: [
      {
        name: "network-overlay",
        title: "",
        shell: `docker network create --driver overlay --attachable mesh\n${RUN} --network mesh --publish 8080:80 IMAGE`,
        says:
          "The container's own document does not show its address there; the document of `docker_gwbridge` does. Ports that a swarm's service publishes on " +
          "every node are dockerd's own (`DOCKER-INGRESS`), and survive every load.",
      },
    ],
  },
  {
    file: "no-docker-proxy",
    title: "Without docker-proxy",
    about:
      "With `\"userland-proxy\": false` the rules serve the bridge's own containers and the host's loopback, too: the DNAT has no `! -i BRIDGE`. It is detected: " +
      "dockerd sets `route_localnet` of the bridge, and no docker-proxy runs for the container.",
    of: "container",
    examples: [
      {
        name: "proxy-off",
        title: "Packets between the bridge's ports pass iptables",
        shell: `${RUN} --publish 8080:80 IMAGE`,
        says: "`bridge-nf-call-iptables` is 1, Docker's default. Only what the container sends to itself needs the masquerade.",
      },
      {
        name: "proxy-off-bypassed",
        title: "Packets between the bridge's ports bypass iptables",
        shell: `${RUN} --publish 8080:80 IMAGE`,
        says: "`bridge-nf-call-iptables` is 0. The reply of another container of the bridge would not pass this host: all of the bridge's subnet is masqueraded. Docker does not do that, and such a client gets no reply.",
      },
    ],
  },
  {
    file: "guards-off",
    title: "Without guards",
    about:
      "`guards: false` omits the DROPs for containers' own addresses, for a host where on-link hosts may address containers directly.",
    of: "container",
    examples: [
      {
        name: "guards-off",
        title: "",
        shell: `${RUN} --publish 8080:80 --publish 127.0.0.1:8081:81 IMAGE`,
        says:
          "What is published on 127.x stays closed to on-link hosts at that address, but port 81 of the container is accepted from hosts that address the container directly. " +
          "The host's own DROPs are omitted with `setup --no-guards` ([host](host.md)).",
      },
    ],
  },
  {
    file: "chain",
    title: "Another chain",
    about:
      "`chain` names the nat chain of the DNAT rules. A container's fragment declares no chain: `setup --chain` does, or a fragment of yours.",
    of: "container",
    examples: [
      {
        name: "chain",
        title: "",
        shell: `${RUN} --publish 8080:80 IMAGE`,
        says: "A chain that no fragment declares, or that nothing jumps to, is an error before anything is written.",
      },
    ],
  },
  {
    file: "podman",
    title: "Podman",
    about:
      "`client: podman`, set up as [docs/podman.md](../podman.md) has it. In podman's document an empty `HostIp`, and 0.0.0.0, means every address, of both families where the container has both.",
    of: "container",
    examples: [
      {
        name: "recorded-podman-default",
        title: "The default network",
        shell: "podman run --detach --name web --publish 8080:80 IMAGE",
        says: "podman's network document names the bridge in `network_interface`.",
      },
      {
        name: "recorded-podman-dual-stack-trixie",
        title: "A network of both families",
        shell:
          "podman run --detach --name web --network dual --publish 8080:80 --publish 0.0.0.0:8081:80 --publish [::]:8082:80 --publish 127.0.0.1:8083:80 --publish [::1]:8084:80 --publish 5353:53/udp IMAGE",
        says: "What is published on every address is so in IPv6, too, which the document does not say.",
      },
      {
        name: "podman-4-several-networks",
        title: "Several networks, one of them internal",
        shell: "podman run --detach --name web --network aaa --network front --network tail --publish 8080:80 IMAGE",
        says: "podman publishes on every network that is not internal; one of them is enough.",
      },
    ],
  },
  {
    file: "nerdctl",
    title: "nerdctl",
    about:
      "`client: nerdctl`. Its documents name neither the network nor the bridge: the network is the only one of the client's in whose subnet the address is.",
    of: "container",
    examples: [
      {
        name: "nerdctl",
        title: "",
        shell: "nerdctl run --detach --name web --publish 8080:80 IMAGE",
        says: "The kernel must route the address to that bridge; else the call fails with `bridge_missing`.",
      },
    ],
  },
  {
    file: "no-rule",
    title: "What gets no rule, and why",
    about:
      "A container without a rule has no fragment, unless it keeps options. The call succeeds and says why, or fails with a code.",
    of: "container",
    examples: [
      {
        name: "mode-host",
        title: "The host's network",
        shell: `${RUN} --network host IMAGE`,
        says: "It listens on the host's own addresses: INPUT filters.",
      },
      {
        name: "mode-container",
        title: "Another container's network",
        shell: `${RUN} --network container:other IMAGE`,
        says: "The other container publishes; create that one.",
      },
      { name: "mode-none", title: "No network", shell: `${RUN} --network none IMAGE`, says: "" },
      {
        name: "ports-exposed-only",
        title: "A port that is exposed, and not published",
        shell: `${RUN} --expose 80 IMAGE`,
        says: "`EXPOSE` is documentation only.",
      },
      {
        name: "network-internal",
        title: "An internal network alone",
        shell: `docker network create --internal inside\n${RUN} --network inside --publish 8080:80 IMAGE`,
        says: "Docker itself publishes nothing there.",
      },
      {
        name: "network-macvlan",
        title: "A macvlan network",
        shell: `${RUN} --network lan --publish 8080:80 IMAGE`,
        says: "The container has an address of the LAN; nothing passes this host's FORWARD.",
      },
      {
        name: "ports-routed",
        title: "A binding without a port of the host",
        shell: `${RUN} --publish 80 IMAGE`,
        says: "It is that of a network that routes ([options of networks](network-options.md)), and the container is in none.",
      },
      {
        name: "podman-rootless",
        title: "A rootless container",
        shell: "podman run --detach --name web --publish 8080:80 IMAGE",
        says: "Its network is in a namespace of the user; a process of the user listens on the port.",
      },
      {
        name: "network-around-another-within",
        title: "A subnet that another interface has, too",
        shell: `docker network create --subnet 10.16.0.0/12 evil\n${RUN} --network evil --publish 8080:80 IMAGE`,
        says: "The kernel would send the packets to the other interface, and the rules would expose a machine there.",
      },
      {
        name: "bridge-missing",
        title: "A bridge that is not on this host",
        shell: `docker --host ssh://elsewhere run --detach --name web --publish 8080:80 IMAGE`,
        says: "A remote daemon, or one in another network namespace.",
      },
      {
        name: "state-exited-with-ports",
        title: "A container that does not run",
        shell: `${RUN} --publish 8080:80 IMAGE\ndocker stop web`,
        says: "It has no address. `create` waits for it first, for `wait_timeout`.",
      },
    ],
  },
  {
    file: "host",
    title: "The host's rules",
    about:
      "What `docker_iptables setup` writes besides the services: `10_docker`, which sorts before the containers' fragments (`11-…`), and `90_docker`, after " +
      "them. Both depend on the daemon's networks; networks without a bridge on this host (macvlan, overlay) need no rules. `/etc/ip6tables.d` has the chains and the jumps to them also without an IPv6 network.",
    of: "host",
    examples: [
      {
        name: "default-network",
        title: "The default network, with IPv6",
        shell: "docker_iptables setup",
        says: "",
      },
      {
        name: "user-defined-network",
        title: "With a user-defined network",
        shell: "docker network create app\ndocker_iptables setup",
        says: "The DROPs of all networks come before the ACCEPTs of any.",
      },
      {
        name: "internal-network",
        title: "With an internal network",
        shell: "docker network create --internal inner\ndocker_iptables setup",
        says: "Its border is closed before the containers' ACCEPTs, otherwise its containers would reach what others publish. It gets no masquerade and no accept for replies.",
      },
      {
        name: "no-docker-proxy",
        title: "Without docker-proxy",
        shell: `echo '{"iptables": false, "ip6tables": false, "userland-proxy": false}' > /etc/docker/daemon.json\ndocker_iptables setup`,
        says: "Packets to loopback addresses go through the chain, too, and packets from them are masqueraded.",
      },
      {
        name: "guards-off",
        title: "Without guards",
        shell: "docker_iptables setup --no-guards",
        says: "The internal network stays closed.",
      },
      {
        name: "network-options",
        title: "Options of networks",
        shell:
          "docker network create --opt com.docker.network.bridge.enable_ip_masquerade=false flat\n" +
          "docker network create --opt com.docker.network.bridge.enable_icc=false apart\n" +
          "docker network create --opt com.docker.network.bridge.gateway_mode_ipv4=nat-unprotected open\n" +
          "docker network create --opt com.docker.network.host_ipv4=192.0.2.9 seen\n" +
          "docker network create --opt com.docker.network.bridge.gateway_mode_ipv4=routed routed\n" +
          "docker_iptables setup",
        says: "The containers' own rules are on the page [options of networks](network-options.md).",
      },
      {
        name: "network-options-no-docker-proxy",
        title: "Options of networks, without docker-proxy",
        shell:
          "docker network create --ipv6 --opt com.docker.network.host_ipv4=192.0.2.9 --opt com.docker.network.host_ipv6=2001:db8::9 seen\n" +
          "docker network create --ipv6 --opt com.docker.network.bridge.gateway_mode_ipv4=routed --opt com.docker.network.bridge.gateway_mode_ipv6=routed \\\n" +
          "    --opt com.docker.network.bridge.enable_icc=false routed\n" +
          "docker_iptables setup",
        says: "All types of ICMP are accepted, also between containers that `enable_icc=false` keeps apart, as Docker does.",
      },
      {
        name: "chain",
        title: "Another chain",
        shell: "docker_iptables setup --chain PUBLISHED",
        says: "",
      },
    ],
  },
];
