// iptables as a backend (plan/backend.ts).

import { readFragments } from "../fragments/directory.ts";
import { changedDnats } from "../iptables/changed-dnats.ts";
import { restoreCommand } from "../iptables/commands.ts";
import { listRules, readFragment, writeFragment } from "../iptables/fragment-text.ts";
import { compareLive, liveOwners } from "../iptables/live.ts";
import { commentOf } from "../iptables/rule.ts";
import { fileOf, spellOwner } from "../model/owner.ts";
import { removesHost } from "../model/request.ts";
import { backendsWith, readKernel } from "../netfilter/iptables.ts";
import type { Backend } from "../plan/backend.ts";
import { warnOfBarriers } from "../plan/barriers.ts";
import { warnOfFirewalls } from "../plan/firewalls.ts";
import { fitDirectAccess, lackForLists } from "../plan/guards.ts";
import { chooseLoader } from "../plan/loader.ts";
import { planHost } from "../plan/setup.ts";
import { validate, warnOfDaemon, warnOfHost } from "../plan/validate.ts";
import { putBackRules, readFormer } from "./former-rules.ts";
import { loadWith, refuseNewcomers, removeOthers } from "./iptables-load.ts";
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
  compare: ({ owner, wanted, former }, live) => compareLive(spellOwner(owner), wanted, former, live),
  changedDnats,

  fit: fitDirectAccess,
  lackForLists,
  planHost,
  validate,
  warnOfDaemon,
  warnOfHost,
  warnOfBarriers,
  warnOfFirewalls,
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
  former: readFormer,
  putBack: putBackRules,
  whereElse: (owner, family, { timeout }) => backendsWith(family, commentOf(spellOwner(owner)), timeout),
};
