// What a container should have: the rules of its options, which are this call's where it names the container, and else those that its
// fragment keeps. Pure.

import type { Container } from "../docker/container.ts";
import { mappingsOf, type PublishedContainer } from "../docker/published.ts";
import { type Fragments, textIn } from "../fragments/by-family.ts";
import { keepsOptions, readFragment } from "../iptables/fragment-text.ts";
import { dnatChain, dnatLeads, filtersDirectAccess, letsIn } from "../iptables/read.ts";
import { type Decided, decide } from "../model/decided-lists.ts";
import { FAMILIES } from "../model/family.ts";
import { type Options, readHead } from "../model/options.ts";
import type { Defaults } from "../model/request.ts";
import { type Made, makeClosingRules, makeContainerRules, type RuleOptions } from "../rules/container-rules.ts";
import { type ContainerFragment, containerFragment, isEmpty } from "../rules/desired-fragment.ts";
import { adviceSentence } from "../text/advice.ts";

/** What the host says of who may connect. */
type SaidByHost = Pick<Defaults, "allow" | "groups" | "trustsLabels">;

/**
 * A container's fragment as it should be, with the rules of its own options, and for the rest `ruleOptions`; `closed`, `unused` and
 * `idle` say what is wrong with its lists.
 */
export function fragmentFor(target: PublishedContainer, ruleOptions: RuleOptions, host: SaidByHost): Made & Listed {
  const options = { ...ruleOptions, ...target.options };
  const decided = decidedFor(target, host);
  const made = makeContainerRules(target, options, decided.allowedTo);
  return {
    ...made,
    warnings: [...made.warnings, ...warningsOf(target.name, decided)],
    ...{ closed: decided.closed, unused: decided.unused, idle: decided.idle },
    wanted: containerFragment(target.name, { meaning: made.rules, chain: options.chain }, target.options),
  };
}

/** What the lists of a container make of its fragment, and what is wrong with them. */
export type Listed = { wanted: ContainerFragment; warnings: string[] } & Pick<Decided, "closed" | "unused" | "idle">;

/** Of one that is left alone: what its lists close all the same; undefined where there is none. */
export function closingFragmentFor(target: PublishedContainer, defaults: Defaults): Listed | undefined {
  if (target.nothingPublished !== undefined) return undefined;
  const decided = decidedFor(target, defaults);
  const meaning = makeClosingRules(target, decided.allowedTo);
  const wanted = containerFragment(target.name, { meaning, chain: defaults.chain }, target.options);
  const { closed, unused, idle } = decided;
  return isEmpty(wanted) ? undefined : { wanted, warnings: warningsOf(target.name, decided), closed, unused, idle };
}

function warningsOf(name: string, { closed, told, unused }: Decided): string[] {
  const unusedKeys = unused.map((key) => `its own list for ${key} is about none of its ports`);
  const all = [...(closed === undefined ? [] : [adviceSentence(closed)]), ...told, ...unusedKeys];
  return all.map((one) => `${name}: ${one}`);
}

function decidedFor(target: PublishedContainer, host: SaidByHost): Decided {
  const { options, allow, imageAllow } = target;
  const { groups, trustsLabels } = host;
  return decide(
    { own: options.allow, label: allow, image: imageAllow, host: host.allow, trustsLabels },
    groups,
    mappingsOf(target),
    target.directPorts.length > 0,
  );
}

/** Of a container of this name, as its fragments say. */
export function keptOptions(name: string, now: Fragments, defaults: Defaults): Options {
  const texts = textsOf(name, now);
  // Of two that differ a run was cut off: the one that is written first is the newer.
  const [head] = texts.filter(keepsOptions);
  return head === undefined ? takenOver(name, now, defaults) : readHead(head);
}

/**
 * The same of a container that is there: where a version that kept no options has chosen one of several networks, it is the one
 * in which its address is.
 */
export function optionsOf(
  { name, attachments }: Pick<Container, "name" | "attachments">,
  now: Fragments,
  defaults: Defaults,
): Options {
  const kept = keptOptions(name, now, defaults);
  const texts = textsOf(name, now);
  if (attachments.length < 2 || texts.length === 0 || texts.some(keepsOptions)) return kept;
  const leads = texts.flatMap((text) => dnatLeads(readFragment(text)));
  const addresses = new Set(leads.flatMap(({ address }) => address ?? []));
  const own = attachments.filter(({ address }) => FAMILIES.some((family) => addresses.has(address[family] ?? "")));
  const [only, ...others] = own;
  return only === undefined || others.length > 0 ? kept : { ...kept, network: only.network };
}

function textsOf(name: string, now: Fragments): string[] {
  return FAMILIES.flatMap((family) => textIn(now, family, name) ?? []);
}

/**
 * Of a fragment of 0.1.0 or of the original script: what its rules show that these arguments do not say. Not that it lacks guards:
 * a sync of 0.1.0 made them, the original script knew none, and in doubt what is not published is not reached.
 */
function takenOver(name: string, now: Fragments, defaults: Defaults): Options {
  const { chain, ipv6 } = optionsInRules(name, now, defaults);
  return { ...(chain === defaults.chain ? {} : { chain }), ...(ipv6 && !defaults.ipv6 ? { ipv6 } : {}) };
}

/**
 * What a container's rules show of the options that they were made with: for a call that names another one, whose arguments say
 * nothing of this.
 */
export function optionsInRules(name: string, now: Fragments, { chain }: Pick<Defaults, "chain">): RuleOptions {
  const fragments = textsOf(name, now).map(readFragment);
  return {
    chain: fragments.map(dnatChain).find(Boolean) ?? chain,
    // Lists alone are there without it, too.
    ipv6: letsIn(readFragment(textIn(now, "ipv6", name) ?? "")),
    guards: fragments.some(filtersDirectAccess),
  };
}
