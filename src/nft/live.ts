// Our table as it runs, in iptables' words as well: all that reads the kernel's rules (who reaches what, whose they are) reads it so. Pure.

import { assemble, type Fragment } from "../iptables/assemble.ts";
import { type Live, NOTHING_LIVE, readLive } from "../iptables/live.ts";
import { keyOf, readWords } from "../iptables/rule.ts";
import { FAMILIES, type Family } from "../model/family.ts";
import { HOST_FILES, hostOwner, type Owner, readOwner, spellOwner } from "../model/owner.ts";
import { commentFor } from "./elements.ts";
import { inIptablesWords } from "./fragment-text.ts";
import { commentsIn } from "./meaning.ts";
import { originsIn } from "./origins.ts";
import type { NftTable } from "./table.ts";

/** One family of it. The words are made when somebody asks for them. */
export class NftLive implements Live {
  /** Undefined where it is not there. */
  readonly table: NftTable | undefined;
  readonly #family: Family;
  #words: Live | undefined;
  #origins: ReadonlyMap<string, string> | undefined;

  constructor(table: NftTable | undefined, family: Family) {
    this.table = table;
    this.#family = family;
  }

  get text(): string {
    return this.#inWords().text;
  }

  get tables(): Live["tables"] {
    return this.#inWords().tables;
  }

  /** A rule in these words as it stands in the table; one that is no element as it is. */
  origin(rule: string): string {
    this.#origins ??= this.table === undefined ? new Map() : originsIn(this.table, this.#family, allOwners(this.table));
    return this.#origins.get(keyOf(readWords(rule))) ?? rule;
  }

  #inWords(): Live {
    this.#words ??= readLive(textOf(this.table, this.#family));
    return this.#words;
  }
}

/** Both families. */
export function liveOf(table: NftTable | undefined): Record<Family, NftLive> {
  const [ipv4, ipv6] = FAMILIES.map((family) => new NftLive(table, family));
  if (ipv4 === undefined || ipv6 === undefined) throw new Error("there are two families");
  return { ipv4, ipv6 };
}

/** Whose elements are in a table, the host's included. */
export function nftOwners(table: NftTable): Owner[] {
  const prefix = commentFor("");
  return [...commentsIn(table)]
    .filter((one) => one.startsWith(prefix))
    .map((one) => readOwner(one.slice(prefix.length)));
}

/** In the order of their files. */
function allOwners(table: NftTable): Owner[] {
  const [first, last] = HOST_FILES.map(hostOwner);
  const containers = nftOwners(table).filter(({ kind }) => kind === "container");
  containers.sort((a, b) => (spellOwner(a) < spellOwner(b) ? -1 : 1));
  return [first, ...containers, last].filter((owner) => owner !== undefined);
}

function textOf(table: NftTable | undefined, family: Family): string {
  if (table === undefined) return "";
  const fragments = allOwners(table).flatMap((owner): Fragment[] => {
    const text = inIptablesWords(table, owner, "").fragments[family];
    return text === undefined ? [] : [{ path: "", text }];
  });
  return assemble(fragments, [], NOTHING_LIVE).lines.join("\n");
}
