// compare: what is there and what should be. Reads, and changes nothing.

import type { Family } from "../model/family.ts";
import type { DesiredFragment } from "../rules/desired-fragment.ts";
import type { HostRequest } from "./backend.ts";
import { keepForeignFiles } from "./host-rules.ts";
import { goingOf, type Item, isContainers, type Kernel } from "./item.ts";
import { type Survey, survey } from "./survey.ts";

export interface Compared {
  found: Survey;
  /** Of those who have no rules any more. */
  going: Item[];
  warnings: string[];
}

/** Throws Failure `fragment_not_a_file`, `directory_unusable`. */
export async function compare(
  wanted: readonly DesiredFragment[],
  families: readonly Family[],
  live: Kernel,
  { subject, host }: Pick<HostRequest, "subject" | "host">,
): Promise<Compared> {
  const all = await survey(wanted, families, live, host);
  const { items, warnings } = keepForeignFiles(all.items);
  const going = goingOf(items).filter((item) => subject.state === "absent" || isContainers(item));
  return { found: { ...all, items }, going, warnings };
}
