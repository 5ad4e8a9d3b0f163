// One document of `network inspect` -> Network, and the choice of the network that publishes. Pure.

import ipaddr from "ipaddr.js";
import type { NetworkDocument } from "../generated/network.ts";
import { canonicalSubnet, withoutPrefix } from "../model/addresses.ts";
import { excerpt, Failure } from "../model/errors.ts";
import { FAMILIES, type Family } from "../model/family.ts";
import {
  type Attachment,
  type Container,
  compareText,
  isInterface,
  isNobodys,
  readAddress,
  readInterface,
} from "./container.ts";

export interface Network {
  name: string;
  id: string;
  driver: string;
  internal: boolean;
  /** The bridge's interface; undefined where the driver has none (macvlan, overlay) or the document does not say. */
  bridge: string | undefined;
  /** Docker's own default network. */
  isDefault: boolean;
  /** Whether podman made it. */
  isPodmans: boolean;
  /** CIDR in canonical spelling, e.g. "172.18.0.0/16". */
  subnets: Record<Family, string[]>;
  /** Whether what leaves the network gets the host's address. */
  masquerade: Record<Family, boolean>;
  /** The address that it gets in place of the one that the kernel would choose (host_ipv4, host_ipv6). */
  hostAddress: Partial<Record<Family, string>>;
  /** How others reach its containers. */
  gatewayMode: Record<Family, GatewayMode>;
  /** Interfaces of the host by which others may address its containers' published ports directly. */
  trustedInterfaces: string[];
  /** Whether its containers may talk to each other. */
  icc: boolean;
  /** Container id -> its address in this network. */
  members: Map<string, Partial<Record<Family, string>>>;
  /** Values of its options that Docker would not accept, and how they are read, in a sentence each. */
  unreadOptions: string[];
}

/**
 * Docker's gateway modes (moby, drivers/bridge: newGwMode): `routed` from 27.0 on, the others from 28.0 on. `isolated` is for internal
 * networks alone, and says which addresses the bridge has.
 */
export type GatewayMode = "nat" | "nat-unprotected" | "routed" | "isolated";

/** The network through which Docker publishes the ports of containers on overlay networks. */
export const GATEWAY_BRIDGE = "docker_gwbridge";

/** Docker and nerdctl write capital letters, podman 4 small ones, podman 3 the CNI list that it keeps. */
export function readNetwork(document: NetworkDocument): Network {
  const name = document.Name ?? document.name ?? "";
  const id = document.Id ?? document.ID ?? document.id ?? name;
  const driver = document.Driver ?? document.driver ?? (document.plugins ? "bridge" : "");
  const bridge = driver === "bridge" ? bridgeOf(document, name, id) : undefined;
  const isDefault = document.Options?.["com.docker.network.bridge.default_bridge"] === "true";
  return {
    name,
    id,
    driver,
    internal: document.Internal ?? document.internal ?? false,
    bridge: bridge ? readInterface(bridge) : undefined,
    isDefault,
    isPodmans: document.Name === undefined && document.name !== undefined,
    subnets: subnetsOf(document),
    ...readOptions(document, { name, isDefault }),
    members: new Map(
      Object.entries(document.Containers ?? {}).map(([member, place]) => [
        member,
        {
          ...(place?.IPv4Address ? { ipv4: readAddress(withoutPrefix(place.IPv4Address), "ipv4") } : {}),
          ...(place?.IPv6Address ? { ipv6: readAddress(withoutPrefix(place.IPv6Address), "ipv6") } : {}),
        },
      ]),
    ),
  };
}

type ReadOptions = Pick<
  Network,
  "masquerade" | "hostAddress" | "gatewayMode" | "trustedInterfaces" | "icc" | "unreadOptions"
>;

const GATEWAY_MODES: readonly GatewayMode[] = ["nat", "nat-unprotected", "routed", "isolated"];
/** As Go's strconv.ParseBool reads them. */
const BOOLEANS = new Map([
  ...["1", "t", "T", "true", "TRUE", "True"].map((word) => [word, true] as const),
  ...["0", "f", "F", "false", "FALSE", "False"].map((word) => [word, false] as const),
]);

/**
 * What a network's options ask for (moby, drivers/bridge/bridge_linux.go: networkConfiguration.fromLabels). Docker refuses a network with
 * a value that it cannot read; here such a value opens nothing, and is told.
 *
 * A daemon with `--iptables=false` says of its default network that it does not masquerade (tried, 20.10): there that is
 * no wish of anybody's.
 */
function readOptions(
  { Options, plugins }: NetworkDocument,
  { name, isDefault }: Pick<Network, "name" | "isDefault">,
): ReadOptions {
  const unreadOptions: string[] = [];
  const read = <T>(option: string, parse: (text: string) => T | undefined, otherwise: [T, string]): T | undefined => {
    const text = Options?.[`com.docker.network.${option}`] ?? "";
    if (text === "") return undefined;
    const value = parse(text);
    if (value !== undefined) return value;
    const shown = JSON.stringify(excerpt(text, 80));
    unreadOptions.push(`the option ${option} of the network ${name} is ${shown}: ${otherwise[1]}`);
    return otherwise[0];
  };
  const masquerades = read("bridge.enable_ip_masquerade", readBoolean, [true, "it is masqueraded"]);
  const icc = read("bridge.enable_icc", readBoolean, [false, "its containers do not reach each other"]);
  const modeOf = (family: Family) =>
    read<GatewayMode>(`bridge.gateway_mode_${family}`, readMode, ["nat", "nat is used"]) ?? "nat";
  const gatewayMode = { ipv4: modeOf("ipv4"), ipv6: modeOf("ipv6") };
  const words = Options?.["com.docker.network.bridge.trusted_host_interfaces"]?.split(":").filter(Boolean) ?? [];
  const trustedInterfaces = [...new Set(words.filter(isInterface))];
  const [bad, ...others] = words.filter((one) => !isInterface(one));
  if (bad !== undefined) {
    const shown = `${JSON.stringify(excerpt(bad, 80))}${others.length > 0 ? ` and ${others.length} more` : ""}`;
    unreadOptions.push(`the network ${name} trusts ${shown}: an interface cannot be called so, and it is left out`);
  }
  const hostAddress: Network["hostAddress"] = {};
  for (const family of FAMILIES) {
    const own = (text: string) => readHostAddress(text, family);
    const address = read<string>(`host_${family}`, own, ["", "the kernel chooses the address"]);
    if (address) hostAddress[family] = address;
  }
  const isMasqueraded = (isDefault || masquerades !== false) && !plugins?.some(({ ipMasq }) => ipMasq === false);
  return {
    masquerade: {
      ipv4: isMasqueraded && gatewayMode.ipv4 !== "routed",
      ipv6: isMasqueraded && gatewayMode.ipv6 !== "routed",
    },
    ...{ hostAddress, gatewayMode, trustedInterfaces, icc: icc ?? true, unreadOptions },
  };
}

function readBoolean(text: string): boolean | undefined {
  return BOOLEANS.get(text);
}

function readMode(text: string): GatewayMode | undefined {
  return GATEWAY_MODES.find((mode) => mode === text);
}

/** An address that a host may have, in the spelling of iptables-save; Docker takes an IPv4 address in IPv6's spelling, too. */
function readHostAddress(text: string, family: Family): string | undefined {
  if (text.includes("%") || !ipaddr.isValid(text)) return undefined;
  if (!text.includes(":") && !ipaddr.IPv4.isValidFourPartDecimal(text)) return undefined;
  const address = ipaddr.process(text);
  if (address.kind() !== family || isNobodys(address)) return undefined;
  return address.toString();
}

function subnetsOf({ IPAM, subnets, plugins }: NetworkDocument): Record<Family, string[]> {
  const stated = [
    ...(IPAM?.Config ?? []).map((config) => config?.Subnet),
    ...(subnets ?? []).map((one) => one?.subnet),
    ...(plugins ?? []).flatMap(({ ipam }) =>
      (ipam?.ranges ?? []).flatMap((range) => (range ?? []).map((one) => one?.subnet)),
    ),
  ];
  const all = stated.flatMap((subnet) => (subnet ? [readSubnet(subnet)] : []));
  return {
    ipv4: all.filter((subnet) => !subnet.includes(":")),
    ipv6: all.filter((subnet) => subnet.includes(":")),
  };
}

/** A subnet in canonical spelling, e.g. 172.17.0.0/16 for 172.17.0.1/16. Throws Failure `client_answer_invalid`. */
export function readSubnet(text: string): string {
  const subnet = canonicalSubnet(text);
  if (subnet !== undefined) return subnet;
  const shown = JSON.stringify(excerpt(text, 80));
  throw new Failure("client_answer_invalid", `the client's answer holds ${shown} where a subnet should be`, {
    value: excerpt(text, 200),
  });
}

function bridgeOf(document: NetworkDocument, name: string, id: string): string | undefined {
  const option = document.Options?.["com.docker.network.bridge.name"];
  if (option) return option;
  if (document.network_interface) return document.network_interface;
  const plugin = document.plugins?.find(({ type }) => type === "bridge");
  if (plugin?.bridge) return plugin.bridge;
  return document.Driver ? bridgeOfId(name, id, "docker0") : undefined;
}

/** Docker's and nerdctl's rule for the bridge of a network that they made: the default network's has a name of its own. */
export function bridgeOfId(name: string, id: string, ofDefault: string): string | undefined {
  if (name === "bridge") return ofDefault;
  return /^[0-9a-f]{12,}$/.test(id) ? `br-${id.slice(0, 12)}` : undefined;
}

/** A container's place in a network, with what is known of that network. */
export interface Place {
  attachment: Attachment;
  /** Undefined where there is no `network inspect` (Docker before 1.9, nerdctl's unknown networks). */
  network: Network | undefined;
}

/**
 * The place that publishes, by family: the requested network, else Docker's order (libnetwork's endpoint order; from 28, where
 * GwPriority is known, each family uses the first network that has its gateway).
 *
 * Throws Failure `network_unknown`.
 */
export function choosePlaces(
  container: Container,
  places: readonly Place[],
  asked: string | undefined,
): Partial<Record<Family, Place>> {
  const ranked = [...places].sort(byDockersOrder);
  if (asked !== undefined) {
    const place = ranked.find(({ attachment, network }) => attachment.network === asked || network?.name === asked);
    if (place === undefined) throw notAttached(container, ranked, asked);
    return only(place);
  }
  const publishing = ranked.filter(
    ({ network }) => network?.internal !== true && (network === undefined || network.bridge),
  );
  const perFamily = publishing.some(({ attachment }) => attachment.gatewayPriority !== undefined);
  if (!perFamily) {
    const first =
      publishing.find((place) => FAMILIES.some((family) => translates(place, family))) ?? publishing.find(hasAddress);
    return first ? only(first) : {};
  }
  return Object.fromEntries(
    FAMILIES.flatMap((family) => {
      const place =
        publishing.find((one) => one.attachment.gateway[family] && translates(one, family)) ??
        publishing.find((one) => translates(one, family)) ??
        publishing.find(({ attachment }) => attachment.address[family]);
      return place ? [[family, place]] : [];
    }),
  );
}

function hasAddress({ attachment }: Place): boolean {
  return FAMILIES.some((family) => attachment.address[family]);
}

/** Whether it can be the one for ports of the host: a network that routes has none. */
function translates({ attachment, network }: Place, family: Family): boolean {
  return attachment.address[family] !== undefined && network?.gatewayMode[family] !== "routed";
}

function only(place: Place): Partial<Record<Family, Place>> {
  return Object.fromEntries(
    FAMILIES.filter((family) => place.attachment.address[family]).map((family) => [family, place]),
  );
}

function byDockersOrder(a: Place, b: Place): number {
  const families = ({ attachment }: Place) => FAMILIES.filter((family) => attachment.gateway[family]).length;
  return (
    (b.attachment.gatewayPriority ?? 0) - (a.attachment.gatewayPriority ?? 0) ||
    Number(a.attachment.network === GATEWAY_BRIDGE) - Number(b.attachment.network === GATEWAY_BRIDGE) ||
    Number(a.network?.internal ?? false) - Number(b.network?.internal ?? false) ||
    families(b) - families(a) ||
    compareText(a.attachment.network, b.attachment.network)
  );
}

function notAttached(container: Container, places: readonly Place[], asked: string): Failure {
  const names = places.map(({ attachment }) => attachment.network).sort();
  const message =
    names.length === 0
      ? `the container ${container.name} is in no network of its own, so not in ${asked}`
      : `the container ${container.name} is not in the network ${asked}; it is in: ${names.join(", ")}`;
  return new Failure("network_unknown", message, { container: container.name, network: asked, networks: names });
}
