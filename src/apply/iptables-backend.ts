// iptables as a backend (plan/backend.ts).

import { readFragments } from "../fragments/directory.ts";
import { changedDnats } from "../iptables/changed-dnats.ts";
import { restoreCommand } from "../iptables/commands.ts";
import { listRules, readFragment, writeFragment } from "../iptables/fragment-text.ts";
import { compareLive, liveOwners } from "../iptables/live.ts";
import { commentOf } from "../iptables/rule.ts";
import { Failure } from "../model/errors.ts";
import { FAMILIES } from "../model/family.ts";
import { fileOf, spellOwner } from "../model/owner.ts";
import { removesHost } from "../model/request.ts";
import { otherFirewalls, usesLegacy } from "../netfilter/foreign-firewalls.ts";
import { backendsWith, readKernel } from "../netfilter/iptables.ts";
import { keepOurLastGood } from "../netfilter/last-good.ts";
import type { Backend } from "../plan/backend.ts";
import { warnOfBarriers } from "../plan/barriers.ts";
import { declaredIn, findForeignRules } from "../plan/foreign-rules.ts";
import { fitDirectAccess, lackForLists } from "../plan/guards.ts";
import { chooseLoader } from "../plan/loader.ts";
import { NOBODY_AROUND, type PreflightFindings, runPreflight } from "../plan/preflight.ts";
import { planHost } from "../plan/setup.ts";
import { validate, warnOfDaemon, warnOfHost } from "../plan/validate.ts";
import { FlushDetector } from "./flush-detection.ts";
import { keepFormerLastGood, putBackRules, readFormer, readFormerRules } from "./former-rules.ts";
import { loadWith, refuseNewcomers, removeOthers } from "./iptables-load.ts";
import { leaveIptables } from "./leaving.ts";
import { findBroken, keepLoaded, loadDirectories } from "./load.ts";
import { dropChains, removeRules } from "./patch.ts";
import { waysBack } from "./ways-back.ts";

export const IPTABLES: Backend = {
  hasOneDirectory: false,
  fileOf,
  write: writeFragment,
  parse: readFragment,
  listRules,
  readFragments,

  read: readKernel,
  ownersIn: liveOwners,
  nameRule: (rule) => rule,
  compare: ({ owner, wanted, former }, live) => compareLive(spellOwner(owner), wanted, former, live),
  changedDnats,

  fit: fitDirectAccess,
  lackForLists,
  planHost,
  validate,
  warnOfDaemon,
  warnOfHost,
  warnOfBarriers,
  otherFirewalls(live, timeout) {
    const legacy = FAMILIES.filter((family) => live[family]?.besideLegacy);
    const nft = FAMILIES.filter((family) => live[family] !== undefined && usesLegacy(live[family]));
    return otherFirewalls({ legacy, nft }, timeout);
  },
  chooseLoader,

  commandFor: restoreCommand,
  refuseNewcomers,
  waysBack,
  load: loadWith,
  async remove(family, gone, { subject, host, defaults }) {
    const live = await removeRules(family, gone, host);
    if (removesHost(subject)) await dropChains(family, defaults.chain, host);
    return live;
  },
  removeOthers,
  leave: leaveIptables,
  former: readFormer,
  putBack: putBackRules,
  async formerRules(families, host) {
    const kernel = await readFormerRules(families, () => true, host);
    await keepFormerLastGood(kernel, host);
    return kernel;
  },
  async keepConfirmed(family, isWhole, { directories, timeout }, { reload }) {
    if (isWhole) return keepLoaded({ families: [family], directories, timeout });
    const directory = directories[family];
    return keepOurLastGood(family, directory, await readFragments(directory), reload === "patch");
  },
  async loadHost({ host, check, families, keepUndeclared }) {
    const { plans, warnings } = await loadDirectories({ host, check }, families, keepUndeclared);
    return {
      changed: plans.filter(({ changed }) => changed.size > 0).map(({ family }) => family),
      untrusted: plans.flatMap(({ untrusted }) => untrusted),
      warnings,
    };
  },
  flags: ({ ipv4, ipv6 }) => ["--iptables-dir", ipv4, "--ip6tables-dir", ipv6],

  async lookAround({ families, now, networks, live }, host) {
    const declared = await declaredIn(now, live, host);
    const scene = { families, future: declared, networks, live };
    return { declared, found: await runPreflight(scene, host.timeout).catch(nobodyAround) };
  },
  findBroken: (fragments, family, live, { directories, timeout }) =>
    findBroken(fragments, { family, directory: directories[family], timeout, live }, live),
  findForeign: findForeignRules,
  lookout: (host) => new FlushDetector(host),

  whereElse: (owner, family, { timeout }) => backendsWith(family, commentOf(spellOwner(owner)), timeout),
};

/** Where iptables-restore cannot be run, who else filters is the smaller trouble. */
function nobodyAround(error: unknown): PreflightFindings {
  if (!(error instanceof Failure)) throw error;
  return NOBODY_AROUND;
}
