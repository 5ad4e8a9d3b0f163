// A fragment of ours as it should be: what its rules mean, and what else its files say. A backend writes it. Pure.

import { FAMILIES, type Family } from "../model/family.ts";
import type { Options } from "../model/options.ts";
import { type ContainerOwner, containerOwner, type HostOwner, hostOwner } from "../model/owner.ts";
import { type ContainerRules, type HostRule, NO_RULES } from "./model.ts";

export interface ContainerFragment {
  owner: ContainerOwner;
  meaning: ContainerRules;
  /** The chain of its DNATs. */
  chain: string;
  /** What a later call that does not name the container holds it to. */
  options: Options;
  /** The texts of its files, where it is to stay as they are. */
  asWritten?: Partial<Record<Family, string>>;
}

/** One of the host's files. */
export interface HostFragment {
  owner: HostOwner;
  meaning: Record<Family, readonly HostRule[]>;
  chain: string;
  /** Lines for who reads the file. */
  notes: Record<Family, readonly string[]>;
}

export type DesiredFragment = ContainerFragment | HostFragment;

/** A container's fragment; without rules, what is left of it when its rules are removed: its options, if it has some. */
export function containerFragment(
  name: string,
  { meaning, chain }: Pick<ContainerFragment, "meaning" | "chain"> = { meaning: NO_RULES, chain: "" },
  options: Options = {},
): ContainerFragment {
  return { owner: containerOwner(name), meaning, chain, options };
}

/** A host's file that is to be removed. */
export function noHostFragment(file: string): HostFragment {
  return { owner: hostOwner(file), meaning: { ipv4: [], ipv6: [] }, chain: "", notes: { ipv4: [], ipv6: [] } };
}

export function isContainerFragment(one: DesiredFragment): one is ContainerFragment {
  return one.owner.kind === "container";
}

/** Whether it has no rule, in either family. */
export function isEmpty({ meaning }: DesiredFragment): boolean {
  return FAMILIES.every((family) => meaning[family].length === 0);
}
