// One document of `network inspect` -> Network, and the choice of the network that publishes. Pure.

import ipaddr from "ipaddr.js";
import type { NetworkDocument } from "../generated/network.ts";
import { canonicalSubnet, withoutPrefix } from "../model/addresses.ts";
import { excerpt, Failure } from "../model/errors.ts";
import { FAMILIES, type Family } from "../model/family.ts";
import { type Attachment, type Container, compareText, readAddress, readInterface } from "./container.ts";

export interface Network {
  name: string;
  id: string;
  driver: string;
  internal: boolean;
  /** The bridge's interface; undefined where the driver has none (macvlan, overlay) or the document does not say. */
  bridge: string | undefined;
  /** Docker's own default network. */
  isDefault: boolean;
  /** CIDR in canonical spelling, e.g. "172.18.0.0/16". */
  subnets: Record<Family, string[]>;
  /** Whether what leaves the network gets the host's address. */
  masquerade: Record<Family, boolean>;
  /** The host's addresses that it gets instead, where the network's options name some. */
  sources: string[];
  /** Whether unpublished ports may be reached from outside (gateway mode nat-unprotected). */
  unprotected: Record<Family, boolean>;
  /** Whether its containers may talk to each other. */
  icc: boolean;
  /** Container id -> its address in this network. */
  members: Map<string, Partial<Record<Family, string>>>;
}

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
    subnets: subnetsOf(document),
    ...readOptions(document, isDefault),
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

const BRIDGE_OPTION = "com.docker.network.bridge.";

/**
 * A daemon with `--iptables=false` says of its default network that it does not masquerade (tried, 20.10): there that is
 * no wish of anybody's.
 */
function readOptions({ Options, plugins }: NetworkDocument, isDefault: boolean) {
  const option = (name: string) => Options?.[`${BRIDGE_OPTION}${name}`] ?? undefined;
  const masquerades =
    (isDefault || option("enable_ip_masquerade") !== "false") && !plugins?.some(({ ipMasq }) => ipMasq === false);
  const sources = FAMILIES.map((family) => Options?.[`com.docker.network.host_${family}`] ?? "");
  const hasMode = (family: Family, mode: string) => option(`gateway_mode_${family}`) === mode;
  return {
    masquerade: {
      ipv4: masquerades && !hasMode("ipv4", "routed"),
      ipv6: masquerades && !hasMode("ipv6", "routed"),
    },
    sources: sources.filter(ipaddr.isValid).map((address) => ipaddr.parse(address).toString()),
    unprotected: { ipv4: hasMode("ipv4", "nat-unprotected"), ipv6: hasMode("ipv6", "nat-unprotected") },
    icc: option("enable_icc") !== "false",
  };
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
    const first = publishing.find(({ attachment }) => FAMILIES.some((family) => attachment.address[family]));
    return first ? only(first) : {};
  }
  return Object.fromEntries(
    FAMILIES.flatMap((family) => {
      const place =
        publishing.find(({ attachment }) => attachment.gateway[family] && attachment.address[family]) ??
        publishing.find(({ attachment }) => attachment.address[family]);
      return place ? [[family, place]] : [];
    }),
  );
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
