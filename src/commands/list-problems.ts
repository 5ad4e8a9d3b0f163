// Where another rule of the host and a list of who may connect disagree, in either direction. Pure.

import type { Network } from "../docker/network.ts";
import { type Endpoint, type PublishedContainer, reachableOf } from "../docker/published.ts";
import type { Problem } from "../generated/result.ts";
import { DOCKER_USER } from "../iptables/docker-rules.ts";
import { walk } from "../iptables/packet.ts";
import { commentOf, readComment, readWords } from "../iptables/rule.ts";
import { type PacketHost, PROXY, type TraceResult, trace } from "../iptables/trace.ts";
import { type View, viewsOf } from "../iptables/views.ts";
import { FAMILIES } from "../model/family.ts";
import { type PortMapping, spellPublish } from "../model/port-mapping.ts";
import { allows, type Source } from "../model/sources.ts";
import { byContainer, type Item } from "../plan/item.ts";
import { rangesOf } from "../rules/container-rules.ts";
import type { AllowDelivered, AllowDirect } from "../rules/model.ts";
import { type ProbeOrigin, probesOf } from "../rules/probe.ts";
import { withoutUsers } from "./problems.ts";

/** More ranges of ports, and more sources of each, are not looked at: each is a walk through all rules. */
const MOST = { ranges: 200, sources: 30 };

/** Ports of a container with a list that is live. */
interface Listed {
  target: PublishedContainer;
  publish: PortMapping;
  count: number;
  sources: readonly Source[];
}

/** A list and another rule disagree: a problem, unless the user's own rules close more than the list does. */
type Disagreement = { problem: Problem } | { warning: string };

/** Of the lists whose rules are live: who passes, or does not, though the list says otherwise; and what is not looked at. */
export function disagreements(
  items: readonly Item[],
  targets: readonly PublishedContainer[],
  networks: readonly Network[],
  host: PacketHost,
): { problems: Problem[]; warnings: string[] } {
  const owned = byContainer(items);
  const all = targets.flatMap((target) =>
    FAMILIES.flatMap((family) => {
      const item = owned.get(target.name)?.find((one) => one.family === family);
      return item?.drift === undefined || item.drift.missing.length > 0 ? [] : listedIn(target, item);
    }),
  );
  const looked = all.slice(0, MOST.ranges);
  const left = all.length - looked.length;
  const found = looked.flatMap((one) => overruling(one, networks, host));
  return {
    problems: found.flatMap((one) => ("problem" in one ? [one.problem] : [])),
    warnings: [
      ...found.flatMap((one) => ("warning" in one ? [one.warning] : [])),
      ...looked.flatMap((one) => idleAccepts(one, networks, host)),
      ...(left > 0 ? [`whether other rules overrule the lists of ${left} more ports or ranges is not looked at`] : []),
    ],
  };
}

function listedIn(target: PublishedContainer, { family, meaning }: Item): Listed[] {
  return meaning
    .filter((rule) => rule.kind === "allow-delivered" || rule.kind === "allow-direct")
    .filter(({ direction }) => direction === "in")
    .flatMap((rule) => {
      const own = reachableOf(target, family).filter((one) => isOf(one, rule));
      return rangesOf(own).map(({ count, ...range }) => ({
        ...{ target, publish: { family, ...range }, count, sources: rule.sources },
      }));
    });
}

function isOf(one: PortMapping, rule: AllowDelivered | AllowDirect): boolean {
  const { ports } = rule;
  const hostAddress = rule.kind === "allow-direct" ? rule.address : rule.hostAddress;
  const isIn = one.protocol === ports.protocol && ports.first <= one.hostPort && one.hostPort <= ports.last;
  return isIn && one.hostAddress === hostAddress;
}

/** Who passes and is not on the list, and who is on it and does not pass because of another rule. */
function overruling(
  { target, publish, count, sources }: Listed,
  networks: readonly Network[],
  host: PacketHost,
): Disagreement[] {
  const by = sources.flatMap((one) => one.by ?? []);
  const probes = probesOf(publish, target, networks, host, by).filter(({ from }) => isAsked(from));
  const reaches = ({ reached }: TraceResult) => target.endpoints.some(({ address }) => address === reached?.address);
  return probes.flatMap((probe) =>
    viewsOf(host, probe, sources, MOST.sources).views.flatMap((view): Disagreement[] => {
      const { source, from = "lo" } = view.trip;
      const isAllowed = allows(sources, source, from);
      const rule = foreignRule(view, target.name);
      if (reaches(view.arrival) === isAllowed || (isAllowed && rule === undefined)) return [];
      const port = `${spellPublish(publish, count)} of ${target.name}`;
      const who = `${source}, which comes by ${from} and ${isAllowed ? "is" : "is not"} on its list`;
      const decides = rule === undefined ? "" : `: '${rule}' decides`;
      if (isAllowed && reaches(trace(withoutUsers(host), view.trip)))
        return [{ warning: `${DOCKER_USER} closes ${port} to ${who}${decides}` }];
      const msg = `${port} is ${isAllowed ? "closed" : "open"} to ${who}${decides}`;
      const hint = `'docker_iptables explain ${target.name}' shows the path`;
      const named = rule === undefined ? {} : { rule };
      return [{ problem: { kind: "list_overruled", container: target.name, ...named, msg, hint } }];
    }),
  );
}

/** Whom a list is about. */
function isAsked({ kind }: ProbeOrigin): boolean {
  return kind === "machine" || kind === "other_bridge";
}

/** The first that decides and is not the container's own. */
function foreignRule({ arrival: { by } }: View, name: string): string | undefined {
  return by.find((one) => one !== PROXY && readComment(readWords(one)) !== commentOf(name));
}

/** An ACCEPT of the user's for who is not on the list: he may think that it opens the port. */
function idleAccepts({ target, publish, count, sources }: Listed, networks: readonly Network[], host: PacketHost) {
  const direct = target.endpoints.find(({ address }) => address === publish.hostAddress);
  const endpoint = direct ?? target.publishing[publish.family];
  const ruling = host.rulings[publish.family];
  const accepts = (ruling?.tables.get("filter")?.chains.get(DOCKER_USER) ?? []).filter(
    ({ target }) => target === "ACCEPT",
  );
  if (endpoint === undefined || ruling === undefined || accepts.length === 0) return [];
  const [probe] = probesOf(publish, target, networks, host).filter(({ from }) => from.kind === "machine");
  if (probe === undefined) return [];
  const clients = accepts.slice(0, MOST.sources).flatMap(({ clauses }) => {
    const given = (option: string) => clauses.find((one) => one.option === option && !one.negated)?.values[0];
    const source = (given("-s") ?? probe.trip.source).replace(/\/\d+$/, "");
    return [{ source, from: given("-i") ?? probe.trip.from }];
  });
  return clients.flatMap(({ source, from }) => {
    if (allows(sources, source, from)) return [];
    const verdict = walk(
      ruling,
      "filter",
      "FORWARD",
      translated(publish, endpoint, { ...probe.trip, source, from }),
    ).verdict;
    if (verdict?.target !== "ACCEPT" || !verdict.rule.startsWith(`-A ${DOCKER_USER} `)) return [];
    const port = `${spellPublish(publish, count)} of ${target.name}`;
    return [
      `'${verdict.rule}' does not open ${port}: its list keeps ${source} out; add that to the list, or remove the rule`,
    ];
  });
}

/** A new connection behind its DNAT, if there is one. */
function translated(
  { hostAddress, hostPort, containerPort }: PortMapping,
  { address, bridge }: Endpoint,
  { destination, ...trip }: View["trip"],
) {
  return {
    ...trip,
    ...{ to: bridge, destination: address, port: containerPort, translated: hostAddress !== address },
    original: { destination, port: hostPort },
  };
}
