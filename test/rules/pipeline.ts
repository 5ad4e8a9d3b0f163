// From what the client prints to the fragments, through the product's own pure functions in the product's order.
// What it leaves out: asking the client, and waiting for a container.

import { readRequest } from "../../src/cli/request.ts";
import { readContainer } from "../../src/docker/container.ts";
import { GATEWAY_BRIDGE, readNetwork } from "../../src/docker/network.ts";
import { describeNothingPublished } from "../../src/docker/nothing-published.ts";
import { type Proxying, withHairpins } from "../../src/docker/proxy.ts";
import { locate } from "../../src/docker/published.ts";
import { validate as validateContainer } from "../../src/generated/validate-container.js";
import { validate as validateNetwork } from "../../src/generated/validate-network.js";
import { writeFragment } from "../../src/iptables/fragment-text.ts";
import type { Ruleset } from "../../src/iptables/rule.ts";
import { Failure } from "../../src/model/errors.ts";
import { networkOf } from "../../src/model/options.ts";
import { NO_SETTINGS, readSettings } from "../../src/model/settings.ts";
import { fragmentFor } from "../../src/plan/desired.ts";
import type { ContainerFragment } from "../../src/rules/desired-fragment.ts";
import { routeTo } from "../../src/system/routes.ts";

export interface Given {
  /** Raw arguments, as a door hands them over. */
  args: Record<string, unknown>;
  /** What `inspect` prints: an array of one document. */
  inspect: unknown[];
  /** What `network inspect` prints. Those that the product would not ask for are left out. */
  networks: unknown[];
  /** Routes besides those of the interfaces' own subnets. */
  interfaces: { names: string[]; subnets: { name: string; cidr: string }[]; routes?: { name: string; cidr: string }[] };
  /** Of the host; left out where it has none. */
  settings?: Record<string, unknown>;
  /** What the host says of docker-proxy; left out where it serves all containers. */
  proxying?: { routed: string[]; proxied: string[]; filtered: ("ipv4" | "ipv6")[] };
}

export interface Outcome {
  name: string;
  notPublished: string | undefined;
  warnings: string[];
  rules: Ruleset;
  fragments: Record<"ipv4" | "ipv6", string | undefined>;
  wanted: ContainerFragment;
}

/** Throws Failure as the product would; for documents that the schema refuses it is `client_answer_invalid`. */
export function outcomeOf({ args, inspect, networks, interfaces, settings, proxying }: Given): Outcome {
  const { path } = NO_SETTINGS;
  const values = settings === undefined ? {} : readSettings(JSON.stringify(settings), path);
  const { defaults, options } = readRequest(args, { env: {}, cwd: "/" }, { ...NO_SETTINGS, values });
  const [document] = inspect;
  if (!validateContainer(document)) throw new Failure("client_answer_invalid", "not what inspect prints");
  const container = readContainer(document);
  if (!container.running) {
    throw new Failure("container_not_running", `${container.name} is ${container.status}`);
  }
  const asked = new Set<string | undefined>([
    GATEWAY_BRIDGE,
    ...container.attachments.map(({ networkId }) => networkId),
  ]);
  const known = networks
    .map((network) => {
      if (!validateNetwork(network)) throw new Failure("client_answer_invalid", "not what network inspect prints");
      return readNetwork(network);
    })
    .filter(({ id, name }) => asked.has(undefined) || asked.has(id) || asked.has(name));
  const { names, subnets, routes = [] } = interfaces;
  const host = {
    names: new Set(names),
    subnets,
    routes: [...subnets, ...routes].flatMap(({ name, cidr }) => routeTo(name, cidr)),
    hasIpv6: true,
  };
  const located = locate(container, known, host, { asked: networkOf(options), options });
  const target = proxying === undefined ? located : withHairpins(located, setsOf(proxying), host);
  const { warnings, wanted } = fragmentFor(target, defaults, defaults);
  const { rules, texts } = writeFragment(wanted);
  return {
    name: target.name,
    notPublished: target.nothingPublished && describeNothingPublished(target.name, target.nothingPublished),
    warnings: [...target.warnings, ...warnings],
    rules,
    fragments: { ipv4: texts.ipv4, ipv6: texts.ipv6 },
    wanted,
  };
}

function setsOf({ routed, proxied, filtered }: NonNullable<Given["proxying"]>): Proxying {
  return { routed: new Set(routed), proxied: new Set(proxied), filtered: new Set(filtered) };
}
