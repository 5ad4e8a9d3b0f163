// One document of `docker inspect` -> Container. Pure. It knows the shapes of Docker 1.3 to 29, podman and nerdctl.
// What comes out was checked: names, addresses, ports and protocols are what they claim to be.

import ipaddr from "ipaddr.js";
import type { AttachmentDocument, ContainerDocument } from "../generated/container.ts";
import type { Allow } from "../model/allow.ts";
import { excerpt, Failure } from "../model/errors.ts";
import { type Family, PROTOCOLS } from "../model/family.ts";
import type { DirectPort, PortMapping } from "../model/port-mapping.ts";

/** The container's place in one network. */
export interface Attachment {
  network: string;
  /** What to ask `network inspect` for; undefined where the client knows no such network. */
  networkId: string | undefined;
  address: Partial<Record<Family, string>>;
  gateway: Partial<Record<Family, string>>;
  /** Docker 28 and later; undefined before. */
  gatewayPriority: number | undefined;
  /** The bridge as Docker before 1.9 named it. */
  bridge: string | undefined;
}

/** How the container is networked: in networks of its own, or not at all on its own. */
export type Mode = { kind: "networks" } | { kind: "host" } | { kind: "none" } | { kind: "container"; of: string };

export interface Container {
  name: string;
  id: string;
  running: boolean;
  /** The client's own word, for messages: created, exited, restarting, running, … */
  status: string;
  /** How and when it ended; undefined where it runs, or never ran. */
  ended: { exitCode: number; at: string } | undefined;
  /** False where its label `docker_iptables.enable` says so: then it is left alone unless it is named. */
  enabled: boolean;
  /**
   * Who may connect, as its own labels say: `docker_iptables.allow.8080/tcp`, and `docker_iptables.allow` for all its ports. Until its
   * image is asked, its image's are among them.
   */
  allow: Allow;
  /** As those of its labels say that its image carries. */
  imageAllow: Allow;
  /** The id of its image; "" where it has none. */
  image: string;
  mode: Mode;
  attachments: Attachment[];
  publishes: PortMapping[];
  /** Bindings without a port of the host, in order: those of its networks in gateway mode routed. */
  directPorts: DirectPort[];
}

/** What a container may be called: never an option to the client. */
export const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,234}$/;
/** Linux: at most 15 bytes, no space, no slash. A trailing "+" would be a wildcard to iptables, a leading "-" an option. */
const INTERFACE = /^[a-zA-Z0-9_.:@][a-zA-Z0-9_.:@-]{0,14}$/;

const ENABLE_LABEL = "docker_iptables.enable";
const ALLOW_LABEL = /^docker_iptables\.allow(?:\.(.*))?$/s;

/** Throws Failure `client_answer_invalid` when a value that goes into rules is not what it claims to be. */
export function readContainer(document: ContainerDocument): Container {
  const id = document.Id ?? document.ID ?? "";
  const name = (document.Name ?? "").replace(/^\//, "");
  if (!NAME.test(name)) throw notNamed(name);
  const settings = document.NetworkSettings ?? {};
  const state = document.State ?? {};
  const attachments = readAttachments(settings);
  const ports = readPorts(settings.Ports ?? {});
  const running = state.Running === true && state.Restarting !== true;
  return {
    name,
    id,
    running,
    status: state.Status ?? (state.Restarting ? "restarting" : running ? "running" : "not running"),
    ended: running ? undefined : readEnd(state),
    enabled: document.Config?.Labels?.[ENABLE_LABEL] !== "false",
    allow: readAllowLabels(document.Config?.Labels ?? {}),
    imageAllow: {},
    image: readImageId(document.Image ?? ""),
    mode: readMode(document.HostConfig?.NetworkMode ?? ""),
    attachments,
    ...ports,
    publishes: isPodmans(state) ? publishedByPodman(ports.publishes, attachments) : ports.publishes,
  };
}

/** Only podman's document has this (podman 1 to 5: libpod/define, InspectContainerState). */
function isPodmans({ OciVersion }: NonNullable<ContainerDocument["State"]>): boolean {
  return typeof OciVersion === "string";
}

/**
 * With IPv6 where the container has it: what is published on every address is so in both families, and podman writes 0.0.0.0
 * for that, also where it was typed (netavark's own rules, tried with podman 5.4 and 5.8).
 */
function publishedByPodman(publishes: PortMapping[], attachments: readonly Attachment[]): PortMapping[] {
  if (!attachments.some(({ address }) => address.ipv6 !== undefined)) return publishes;
  const everywhere = publishes.filter(({ family, hostAddress }) => family === "ipv4" && hostAddress === undefined);
  return sortedOnce([...publishes, ...everywhere.map((publish) => ({ ...publish, family: "ipv6" as const }))]);
}

/** Docker and podman have an id; nerdctl has a name, which may be another image's by now: "". */
function readImageId(image: string): string {
  const bare = image.replace(/^sha256:/, "");
  return /^[0-9a-f]{64}$/.test(bare) ? bare : "";
}

/** A label without a value is an empty list: nobody. Of two labels for all ports neither decides: that cannot be read. */
export function readAllowLabels(labels: Readonly<Record<string, string | null | undefined>>): Allow {
  const lists = new Map<string, string[]>();
  for (const [label, value] of Object.entries(labels)) {
    const match = ALLOW_LABEL.exec(label);
    if (match === null) continue;
    const key = match[1] ?? "*";
    const words = (value ?? "").split(",").map((word) => word.trim());
    const isTwice = lists.has(key);
    lists.set(key, isTwice ? [`another list in ${label}`] : words.filter((word) => word !== ""));
  }
  return Object.fromEntries(lists);
}

/** Docker's time of what has not happened is year 1; podman has a zone where Docker has Z. `at` is UTC, to the second. */
function readEnd({ ExitCode, FinishedAt }: NonNullable<ContainerDocument["State"]>): Container["ended"] {
  const at = Date.parse(FinishedAt ?? "");
  if (typeof ExitCode !== "number" || !(at > 0)) return undefined;
  return { exitCode: ExitCode, at: new Date(at).toISOString().replace(/\.\d+Z$/, "Z") };
}

function readMode(mode: string): Mode {
  if (mode === "host" || mode === "none") return { kind: mode };
  if (mode.startsWith("container:")) return { kind: "container", of: excerpt(mode.slice("container:".length), 64) };
  return { kind: "networks" };
}

type Settings = NonNullable<ContainerDocument["NetworkSettings"]>;

/**
 * Before 1.9 there is no `Networks`, and the top level describes the one bridge.
 * Throws Failure `client_answer_invalid`, as `readContainer` does.
 */
export function readAttachments(settings: Settings): Attachment[] {
  const networks = Object.entries(settings.Networks ?? {});
  if (networks.length > 0) return networks.map(([name, attachment]) => readAttachment(name, attachment ?? {}));
  if (!settings.IPAddress) return [];
  const bridge = settings.Bridge ? readInterface(settings.Bridge) : undefined;
  return [{ ...readAttachment("bridge", settings), networkId: undefined, bridge }];
}

function readAttachment(network: string, document: NonNullable<AttachmentDocument>): Attachment {
  return {
    network,
    networkId: document.NetworkID ? readNetworkId(document.NetworkID) : idOfNamed(network),
    address: refuseNobodys(pair(document.IPAddress, document.GlobalIPv6Address)),
    gateway: pair(document.Gateway, document.IPv6Gateway),
    gatewayPriority: document.GwPriority ?? undefined,
    bridge: undefined,
  };
}

/** What becomes a part of a question is an id or a name, and nothing else. */
function readNetworkId(id: string): string {
  if (NAME.test(id)) return id;
  throw invalid("a network's id", id);
}

/** Where only its name is known. nerdctl names networks that it does not know itself, e.g. unknown-eth0. */
function idOfNamed(network: string): string | undefined {
  return NAME.test(network) && !network.startsWith("unknown-") ? network : undefined;
}

function pair(ipv4: string | null | undefined, ipv6: string | null | undefined): Partial<Record<Family, string>> {
  return {
    ...(ipv4 ? { ipv4: readAddress(ipv4, "ipv4") } : {}),
    ...(ipv6 ? { ipv6: readAddress(ipv6, "ipv6") } : {}),
  };
}

const NOBODYS = new Set(["unspecified", "loopback", "multicast", "broadcast"]);

/** Whether no machine has it as its own address towards others. */
export function isNobodys(address: ipaddr.IPv4 | ipaddr.IPv6): boolean {
  return NOBODYS.has(address.range());
}

/** A rule that leads to this host itself, to many hosts or to none leads to no container. */
function refuseNobodys(address: Attachment["address"]): Attachment["address"] {
  for (const text of Object.values(address)) {
    if (isNobodys(ipaddr.parse(text))) throw invalid("a container's own address", text);
  }
  return address;
}

function readPorts(ports: NonNullable<Settings["Ports"]>): Pick<Container, "publishes" | "directPorts"> {
  const publishes: PortMapping[] = [];
  const directPorts = new Map<string, DirectPort>();
  // A range has thousands of bindings on one address or two.
  const hosts = new Map<string, ReturnType<typeof readHostIp>>();
  const hostOf = (typed: string) => {
    const host = hosts.get(typed) ?? readHostIp(typed);
    hosts.set(typed, host);
    return host;
  };
  for (const [key, bindings] of Object.entries(ports)) {
    const { containerPort, protocol } = readPortKey(key);
    for (const { HostIp, HostPort } of bindings ?? []) {
      const { family, hostAddress } = hostOf(HostIp ?? "");
      if (HostPort === undefined || HostPort === null || HostPort === "" || Number(HostPort) === 0) {
        directPorts.set(`${key} ${family}`, { family, containerPort, protocol });
        continue;
      }
      publishes.push({ family, hostAddress, hostPort: readPort(HostPort), containerPort, protocol });
    }
  }
  return { publishes: sortedOnce(publishes), directPorts: [...directPorts.values()].sort(byDirectPort) };
}

function sortedOnce(publishes: PortMapping[]): PortMapping[] {
  return publishes.sort(byPublish).filter((publish, index, all) => {
    const last = all[index - 1];
    return last === undefined || byPublish(last, publish) !== 0;
  });
}

/** `80/tcp`; a key without its protocol is TCP. */
function readPortKey(key: string): Pick<PortMapping, "containerPort" | "protocol"> {
  const [, port, word = "tcp"] = /^(\d+)(?:\/(\w+))?$/.exec(key) ?? [];
  const protocol = PROTOCOLS.find((known) => known === word.toLowerCase());
  if (port === undefined || protocol === undefined) throw invalid("a container's port and protocol", key);
  return { containerPort: readPort(port), protocol };
}

function readPort(text: string | number): number {
  const port = Number(text);
  if (/^\d{1,5}$/.test(String(text)) && port >= 1 && port <= 65535) return port;
  throw invalid("a port", String(text));
}

/** An empty HostIp is podman's word for 0.0.0.0; it also keeps an IPv4-mapped address as it was typed. */
function readHostIp(typed: string): Pick<PortMapping, "family" | "hostAddress"> {
  const text = ipaddr.IPv6.isValid(typed) ? ipaddr.process(typed).toString() : typed;
  if (text === "" || text === "0.0.0.0") return { family: "ipv4", hostAddress: undefined };
  const family = text.includes(":") ? "ipv6" : "ipv4";
  const hostAddress = readAddress(text, family);
  return { family, hostAddress: hostAddress === "::" ? undefined : hostAddress };
}

/** An address in the spelling of iptables-save. Throws Failure `client_answer_invalid`. */
export function readAddress(text: string, family: Family): string {
  const bare = text.replace(/^\[(.*)\]$/, "$1");
  if (family === "ipv4" && ipaddr.IPv4.isValidFourPartDecimal(bare)) return ipaddr.IPv4.parse(bare).toString();
  if (family === "ipv6" && ipaddr.IPv6.isValid(bare) && !bare.includes("%")) {
    return ipaddr.IPv6.parse(bare).toRFC5952String();
  }
  throw invalid(family === "ipv4" ? "an IPv4 address" : "an IPv6 address", text);
}

/** A network interface's name. Throws Failure `client_answer_invalid`. */
export function readInterface(text: string): string {
  if (isInterface(text)) return text;
  throw invalid("a network interface's name", text);
}

/** Whether it is one that a rule may name. */
export function isInterface(text: string): boolean {
  return INTERFACE.test(text);
}

/** By host port, protocol, one address before every address, address, container port: the order of the rules. */
function byPublish(a: PortMapping, b: PortMapping): number {
  return (
    a.hostPort - b.hostPort ||
    PROTOCOLS.indexOf(a.protocol) - PROTOCOLS.indexOf(b.protocol) ||
    Number(a.hostAddress === undefined) - Number(b.hostAddress === undefined) ||
    compareText(a.hostAddress ?? "", b.hostAddress ?? "") ||
    compareText(a.family, b.family) ||
    a.containerPort - b.containerPort
  );
}

function byDirectPort(a: DirectPort, b: DirectPort): number {
  return (
    a.containerPort - b.containerPort ||
    PROTOCOLS.indexOf(a.protocol) - PROTOCOLS.indexOf(b.protocol) ||
    compareText(a.family, b.family)
  );
}

/** By UTF-16 code unit; for the ASCII of names and addresses that is bytewise. */
export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Of a name that is only too long, that it is so. */
function notNamed(name: string): Failure {
  if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(name)) return invalid("a container's name", name);
  const message = `its name has ${name.length} characters, and a fragment's file name has room for 235`;
  return new Failure("client_answer_invalid", message, { value: excerpt(name, 200) });
}

function invalid(what: string, text: string): Failure {
  return new Failure(
    "client_answer_invalid",
    `the client's answer holds ${JSON.stringify(excerpt(text, 80))} where ${what} should be`,
    { value: excerpt(text, 200) },
  );
}
