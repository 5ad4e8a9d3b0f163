// A fragment of ours as nftables has it: the text of one file, with both families; and what such a file says, in iptables' words. Pure.
//
// On disk: a line that marks the file as ours, the container's options if it has some, then nft's commands, a line each. All that reads
// fragments (who claims what, who reaches what) reads them in iptables' words, whatever the backend.

import { managedHeader, type Written, writeFragment } from "../iptables/fragment-text.ts";
import { FAMILIES, type Family } from "../model/family.ts";
import { headOf, readHead } from "../model/options.ts";
import { HOST_FILES, type Owner, spellOwner } from "../model/owner.ts";
import { containerFragment, type DesiredFragment, isEmpty, noHostFragment } from "../rules/desired-fragment.ts";
import type { ContainerRule, HostRule } from "../rules/model.ts";
import { oneLine } from "../text/visible.ts";
import { readCommand } from "./commands.ts";
import { commentFor, renderElements } from "./elements.ts";
import { declared } from "./layout.ts";
import { containerMeaning, hostMeaning } from "./meaning.ts";
import { type NftTable, readLines } from "./table.ts";
import { confirmedLines, containerLines, hostLines } from "./text.ts";

/** The chain of the DNATs in iptables' words; nftables has none. */
export const CHAIN = "DOCKER_CONTAINERS";

/** A fragment as nftables has it; `confirmed` is the directory of what is confirmed since the boot. The same one gives the same bytes. */
export function writeNft(fragment: DesiredFragment, confirmed: string): Written {
  const known = WRITTEN.get(fragment) ?? write(fragment, confirmed);
  WRITTEN.set(fragment, known);
  return known;
}

const WRITTEN = new WeakMap<DesiredFragment, Written>();

function write(fragment: DesiredFragment, confirmed: string): Written {
  const text = textOf(fragment, confirmed);
  if (text === undefined) return { rules: { ipv4: {}, ipv6: {} }, texts: {}, fragments: {} };
  return { ...readNft(text, fragment.owner).words, texts: { ipv4: text, ipv6: text } };
}

function textOf(fragment: DesiredFragment, confirmed: string): string | undefined {
  const owner = spellOwner(fragment.owner);
  const head = "options" in fragment ? (headOf(fragment.options) ?? []) : notesOf(fragment.notes);
  const lines = isEmpty(fragment) ? [] : linesOf(fragment, owner, confirmed);
  if (lines.length === 0 && (head.length === 0 || !("options" in fragment))) return undefined;
  return [managedHeader(owner), ...[head].flat(), ...lines, ""].join("\n");
}

function notesOf(notes: Record<Family, readonly string[]>): string[] {
  return [...new Set(FAMILIES.flatMap((family) => notes[family]))].map((note) => `# ${oneLine(note)}`);
}

function linesOf(fragment: DesiredFragment, owner: string, confirmed: string): string[] {
  const all: Record<Family, readonly (ContainerRule | HostRule)[]> = fragment.meaning;
  const rendered = FAMILIES.map((family) => renderElements(all[family], family, owner));
  if ("options" in fragment) return containerLines(owner, rendered);
  if (fragment.owner.file !== HOST_FILES[0]) return [...containerLines(owner, rendered), ...confirmedLines(confirmed)];
  const own = FAMILIES.flatMap((family) => fragment.meaning[family]);
  const proxy = own.some((rule) => rule.kind === "published-ports" && rule.from === "host" && rule.exceptLoopback);
  return hostLines(owner, { proxy }, rendered);
}

/** What a file of an owner says. */
export interface ReadNft {
  table: NftTable;
  /** The lines that are none of ours, by their number; from 1. */
  strange: number[];
  /** The same in iptables' words, which are made when somebody asks for them. */
  readonly words: Omit<Written, "texts">;
}

/** The text of an owner that was read last: a call reads each several times. */
const LAST = new Map<string, { text: string; read: ReadNft }>();

export function readNft(text: string, owner: Owner): ReadNft {
  const key = spellOwner(owner);
  const last = LAST.get(key);
  if (last?.text === text) return last.read;
  const { table, strange } = readLines(text.split("\n"), declared());
  let words: ReadNft["words"] | undefined;
  const read = {
    table,
    strange: strange.map((at) => at + 1),
    get words() {
      words ??= inIptablesWords(table, owner, text);
      return words;
    },
  };
  LAST.set(key, { text, read });
  return read;
}

/** What a table has of an owner; `text` is its file's, for its options. */
export function inIptablesWords(table: NftTable, owner: Owner, text: string): Omit<Written, "texts"> {
  const { rules, texts } = writeFragment(meant(table, owner, text));
  return { rules, fragments: texts };
}

function meant(table: NftTable, owner: Owner, text: string): DesiredFragment {
  if (owner.kind === "host") {
    const of = (family: Family) => hostMeaning(table, family, owner.file);
    return { ...noHostFragment(owner.file), chain: CHAIN, meaning: { ipv4: of("ipv4"), ipv6: of("ipv6") } };
  }
  const comment = commentFor(owner.name);
  const of = (family: Family) => containerMeaning(table, family, comment);
  return containerFragment(
    owner.name,
    { meaning: { ipv4: of("ipv4"), ipv6: of("ipv6") }, chain: CHAIN },
    readHead(text),
  );
}

/** The rules of fragments, by the set, map or chain that they are in: nft's own lines. */
export function listNftRules(fragments: readonly DesiredFragment[], confirmed: string): Record<string, string[]> {
  const listed: Record<string, string[]> = {};
  for (const { texts } of fragments.map((one) => writeNft(one, confirmed))) {
    for (const line of (texts.ipv4 ?? "").split("\n")) {
      const command = readCommand(line);
      if (command?.kind !== "add element" && command?.kind !== "add rule") continue;
      listed[command.name] ??= [];
      listed[command.name]?.push(line);
    }
  }
  return listed;
}
