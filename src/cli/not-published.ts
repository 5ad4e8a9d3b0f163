// Why a container has no rules after a call, in words. Pure.

import { describeNothingPublished, describeNowhere } from "../docker/nothing-published.ts";
import { FAMILY_WORDS } from "../model/family.ts";
import type { NotPublished } from "../plan/selection.ts";
import type { NoRules } from "../rules/container-rules.ts";
import { orNearest } from "../text/suggest.ts";

export function describeNotPublished({ name, why }: NotPublished): string {
  if (why.kind === "nothing_published") return describeNothingPublished(name, why.nothingPublished);
  if (why.kind !== "absent_already") return `${name} gets no rule: it ${lackOf(why)}`;
  return `${name} has no ${why.what}, nothing to do${orNearest(name, why.others)}`;
}

function lackOf(why: Exclude<NoRules, { kind: "nothing_published" }>): string {
  switch (why.kind) {
    case "nowhere":
      return describeNowhere(why.nowhere);
    case "ipv6_not_asked":
      return "publishes on IPv6 only, and ipv6 is not set";
    case "overlap":
      return "has an address that is also routed to another interface of this host";
    case "no_address":
      return `has no ${FAMILY_WORDS[why.family]} address`;
  }
}
