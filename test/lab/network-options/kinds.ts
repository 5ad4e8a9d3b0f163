/*
 * The kinds of networks that Docker's options make: one of each, with the version that knows it. Each has a container that publishes,
 * and a peer that does not.
 */

import type { Family } from "../matrix/place.ts";

export interface Kind {
  name: string;
  /** The first version of Docker that knows it, as major.minor. */
  since: string;
  /** Arguments of `docker network create`, besides its subnets and its bridge's name; undefined for Docker's default network. */
  options: ((place: { second: string; second6: string }) => string[]) | undefined;
  families: readonly Family[];
  /** Another one than bridge: it is on the host's wire. */
  driver?: "macvlan";
  /** The port of the host at which its container publishes port 80 over TCP and UDP. */
  port: number;
}

const BOTH: readonly Family[] = ["ipv4", "ipv6"];
const option = (name: string, value: string) => ["--opt", `com.docker.network.${name}=${value}`];
const bothModes = (mode: string) => [
  ...option("bridge.gateway_mode_ipv4", mode),
  ...option("bridge.gateway_mode_ipv6", mode),
];

export const KINDS: readonly Kind[] = [
  { name: "bridge", since: "20.10", options: undefined, families: BOTH, port: 8100 },
  { name: "plain", since: "20.10", options: () => [], families: BOTH, port: 8101 },
  { name: "inner", since: "20.10", options: () => ["--internal"], families: BOTH, port: 8102 },
  { name: "quiet", since: "20.10", options: () => option("bridge.enable_icc", "false"), families: BOTH, port: 8103 },
  {
    ...{ name: "flat", since: "20.10", families: BOTH, port: 8104 },
    options: () => option("bridge.enable_ip_masquerade", "false"),
  },
  {
    ...{ name: "bound", since: "20.10", families: ["ipv4"], port: 8105 },
    options: ({ second }) => option("bridge.host_binding_ipv4", second),
  },
  {
    ...{ name: "seen", since: "20.10", families: ["ipv4"], port: 8106 },
    options: ({ second }) => option("host_ipv4", second),
  },
  {
    ...{ name: "seen6", since: "26.0", families: BOTH, port: 8107 },
    options: ({ second, second6 }) => [...option("host_ipv4", second), ...option("host_ipv6", second6)],
  },
  {
    ...{ name: "lan", since: "20.10", driver: "macvlan", families: ["ipv4"], port: 8114 },
    options: () => ["--opt", "parent=eth0"],
  },
  { name: "six", since: "28.0", options: () => ["--ipv4=false"], families: ["ipv6"], port: 8108 },
  { name: "routed", since: "27.0", options: () => bothModes("routed"), families: BOTH, port: 8109 },
  {
    ...{ name: "half", since: "27.0", families: BOTH, port: 8110 },
    options: () => option("bridge.gateway_mode_ipv6", "routed"),
  },
  { name: "open", since: "28.0", options: () => bothModes("nat-unprotected"), families: BOTH, port: 8111 },
  {
    ...{ name: "isolated", since: "28.0", families: BOTH, port: 8112 },
    options: () => ["--internal", ...bothModes("isolated")],
  },
  {
    ...{ name: "trusting", since: "28.2", families: BOTH, port: 8113 },
    options: () => option("bridge.trusted_host_interfaces", "eth0"),
  },
];

/** Whether a daemon of a version such as 28.5.2+dfsg3 knows it. */
export function isKnown({ since }: Kind, version: string): boolean {
  return versionOf(version) >= versionOf(since);
}

/** Its major and minor as one number. */
export function versionOf(text: string): number {
  const [major = 0, minor = 0] = text.split(".").map((part) => Number.parseInt(part, 10));
  return major * 1000 + minor;
}
