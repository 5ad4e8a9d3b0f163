// What there is to do for a host whose backend is nftables, besides its own fragments. Our table is ours alone, so there is nothing to
// adopt, and no other rules are in danger; but others' tables may refuse what ours lets pass. Reads, and changes nothing.

import { asksThisHost } from "../docker/socket.ts";
import { hasDockersRules } from "../iptables/live.ts";
import { Failure } from "../model/errors.ts";
import { FAMILIES, type Family } from "../model/family.ts";
import { configWords } from "../model/settings.ts";
import { readKernel } from "../netfilter/iptables.ts";
import { findPlaces, planUnits } from "../systemd/install.ts";
import { nftUnitText } from "../systemd/unit-text.ts";
import type { HostPlanRequest } from "./backend.ts";
import { type HostPlan, NOTHING_PLANNED } from "./host-plan.ts";
import { refuseForeignFiles } from "./host-rules.ts";
import type { Item, Kernel } from "./item.ts";
import { findLeftovers } from "./leftovers.ts";
import { type PreflightFindings, refuseNetavark, runPreflight } from "./preflight.ts";
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
  const leftovers = desired.daemon === undefined ? [] : await findLeftovers(found, {}, desired.networks, host.timeout);
  const loaders =
    loading.reload === "systemd" ? await planUnits(servicesFor(FAMILIES, host), places, host.timeout, nftUnitText) : [];
  return { ...plan, leftovers, units: [...loaders, ...watchers] };
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
  return runPreflight({ families, future: {}, networks: desired.networks, live: iptables }, timeout);
}
