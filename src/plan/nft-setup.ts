// What there is to do for a host whose backend is nftables, besides its own fragments. Our table is ours alone, so there is nothing to
// adopt, and no other rules are in danger; but others' tables may refuse what ours lets pass. Reads, and changes nothing.

import type { Network } from "../docker/network.ts";
import { asksThisHost } from "../docker/socket.ts";
import { hasDockersRules } from "../iptables/live.ts";
import { Failure } from "../model/errors.ts";
import { FAMILIES, FAMILY_WORDS, type Family } from "../model/family.ts";
import { configWords } from "../model/settings.ts";
import { everybodyElse } from "../netfilter/foreign-firewalls.ts";
import { readKernel } from "../netfilter/iptables.ts";
import { barrierIn } from "../netfilter/nft-tables.ts";
import { findPlaces, planUnits } from "../systemd/install.ts";
import { nftUnitText } from "../systemd/unit-text.ts";
import { type Advice, adviceSentence } from "../text/advice.ts";
import type { HostPlanRequest } from "./backend.ts";
import { admitByIptables, type Firewall, firewallsOf } from "./firewalls.ts";
import { type HostPlan, NOTHING_PLANNED } from "./host-plan.ts";
import { refuseForeignFiles } from "./host-rules.ts";
import type { Item, Kernel } from "./item.ts";
import { findLeftovers } from "./leftovers.ts";
import { adviseUnzoned, type PreflightFindings, refuseNetavark, runPreflight } from "./preflight.ts";
import { servicesFor } from "./services.ts";
import { type HostScene, isSetUp, planWatchers, refuseManagingDaemon } from "./setup.ts";
import { planHostRemoval } from "./setup-removal.ts";

/** `Backend.planHost`. Throws Failure: `fragment_foreign`, `rules_undeclared`, `base_in_use`, and those of `planUnits`. */
export async function planNftHost(scene: HostScene, request: HostPlanRequest): Promise<HostPlan> {
  const { items, now, desired } = scene;
  const { subject, host, client, loading, settings } = request;
  if (subject.state === "absent") return planHostRemoval(items, now, request);
  refuseForeignFiles(items);
  const places = findPlaces(host.timeout, configWords(settings.path));
  const directories = [...new Set(familiesOf(items).map((family) => host.directories[family]))];
  const watchers = await planWatchers(request, places);
  const plan = { ...NOTHING_PLANNED, directories, units: watchers };
  if (loading.reload === "none") return plan;
  const iptables = await readIptables(host.timeout);
  if (Object.values(iptables).some(hasDockersRules) || (await asksThisHost(client)))
    await refuseManagingDaemon(desired, iptables, client);
  const found = await lookAround(scene, iptables, host.timeout);
  if (!isSetUp(items)) refuseNetavark(found, loading);
  const leftovers =
    desired.daemon === undefined
      ? []
      : await findLeftovers(found, desired.move?.now ?? {}, desired.networks, host.timeout);
  const loaders =
    loading.reload === "systemd" ? await planUnits(servicesFor(FAMILIES, host), places, host.timeout, nftUnitText) : [];
  const gone = new Set(leftovers.map(({ name }) => name));
  const warnings = [
    ...(desired.move === undefined ? [] : adviseLeftPolicies(iptables)),
    ...adviseForwarding(firewallsOf(await everybodyElse(host.timeout)), gone, desired.networks),
    ...adviseUnzoned(found.unzoned),
  ].map(adviceSentence);
  return { ...plan, leftovers, units: [...loaders, ...watchers], warnings };
}

/** Of tables that drop what is forwarded to containers, whatever it is, and so also what they send. */
function adviseForwarding(
  firewalls: readonly Firewall[],
  gone: ReadonlySet<string>,
  networks: readonly Network[],
): Advice[] {
  const bridges = networks.flatMap(({ bridge, internal }) => (bridge === undefined || internal ? [] : [bridge]));
  return firewalls.flatMap(({ table, what: called, admit }) => {
    const { name } = table;
    const family = name.startsWith("ip6 ") ? "ipv6" : "ipv4";
    const closed = bridges.filter((bridge) => barrierIn(table, { family, protocol: "tcp", ports: [], bridge }));
    const [first] = closed;
    const barrier =
      first === undefined ? undefined : barrierIn(table, { family, protocol: "tcp", ports: [], bridge: first });
    if (barrier?.hook !== "forward" || gone.has(name)) return [];
    const chain = barrier.name;
    const what = `${called} drops what is forwarded to and from ${closed.join(", ")} (its chain ${chain}), and no table of ours can let that pass`;
    const hint = `'${admit(chain)}' lets in what is published: add that where its rules come from, and what lets containers reach others`;
    return [{ what, hint }];
  });
}

/** Of a policy that our rules in iptables have let through until now. */
function adviseLeftPolicies(iptables: Kernel): Advice[] {
  return FAMILIES.flatMap((family) => {
    const policy = iptables[family]?.tables.get("filter")?.chains.get("FORWARD");
    if (policy === undefined || policy === "ACCEPT") return [];
    const program = family === "ipv4" ? "iptables" : "ip6tables";
    const what = `iptables' FORWARD has the policy ${policy} for ${FAMILY_WORDS[family]}, and our rules there, which let packets pass, go`;
    return [{ what, hint: `'${admitByIptables(program, "FORWARD")}' lets in what is published` }];
  });
}

function familiesOf(items: readonly Item[]): Family[] {
  return [...new Set(items.map(({ family }) => family))];
}

/** iptables' rules, where the host has it: Docker's may be there from before. */
export async function readIptables(timeout: number): Promise<Kernel> {
  const directories = { ipv4: "", ipv6: "" };
  const host = { directories, services: directories, timeout, needsIpv6: false };
  return readKernel(FAMILIES, host).catch((error: unknown) => {
    if (error instanceof Failure && error.code === "command_missing") return {};
    throw error;
  });
}

async function lookAround({ desired }: HostScene, iptables: Kernel, timeout: number): Promise<PreflightFindings> {
  const families = FAMILIES.filter((family) => iptables[family] !== undefined);
  return runPreflight(
    { families, future: desired.move?.now ?? {}, networks: desired.networks, live: iptables },
    timeout,
  );
}
