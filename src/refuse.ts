// What must hold before a container's fragment is written: some fragment of the host declares the chain, and jumps to it.

import type { Family } from "./docker/container.ts";
import { Failure } from "./errors.ts";
import { assemble, type Fragment, refuseProblems } from "./fragments/assemble.ts";
import { readFragments } from "./fragments/directory.ts";
import type { Arguments } from "./generated/arguments.ts";
import { isMarked } from "./rules/fragment-text.ts";
import { readLive } from "./rules/live.ts";
import { readWords } from "./rules/rule.ts";
import { readTables } from "./rules/table-text.ts";
import { directoryOf, type Item } from "./survey.ts";

/** Throws Failure `chain_not_declared`, `chain_not_reached`; with `reload: restore` and `patch` also `fragment_invalid`. */
export async function refuseWhatCannotWork(items: readonly Item[], args: Arguments): Promise<void> {
  const families = new Set(items.filter(({ after }) => after !== undefined).map(({ family }) => family));
  for (const family of families) {
    const own = new Set(items.filter((item) => item.family === family).map(({ path }) => path));
    const fragments = (await readFragments(directoryOf(family, args))).filter(({ path }) => !own.has(path));
    refuseUnreachedChain(fragments, family, args);
    // A patch loads nothing of a stranger's, so his broken fragment is no obstacle.
    const loaded = args.reload === "patch" ? fragments.filter(({ text }) => isMarked(text)) : fragments;
    if (args.reload === "restore" || args.reload === "patch") {
      refuseProblems(assemble(loaded, [], readLive("")).problems);
    }
  }
}

function refuseUnreachedChain(fragments: readonly Fragment[], family: Family, args: Arguments): void {
  const { chain } = args;
  const directory = directoryOf(family, args);
  const nat = fragments.flatMap(({ text }) => readTables(text).sections.filter(({ table }) => table === "nat"));
  const lines = nat.flatMap((section) => section.lines.map(({ text }) => readWords(text)));
  const creates = ([option, name]: string[]) => (option === "-N" || option === "--new-chain") && name === chain;
  if (!nat.some(({ chains }) => chains.has(chain)) && !lines.some(creates)) {
    throw new Failure(
      "chain_not_declared",
      `no fragment in ${directory} declares the chain ${chain} of the nat table; put ':${chain} - [0:0]' and the jumps to it ` +
        `into ${directory}/10_docker (see "The base" in the README), or name another with chain`,
      { chain, path: directory },
    );
  }
  const jumps = (words: string[]) =>
    words.some((word, at) => /^(-j|--jump|-g|--goto)$/.test(word) && words[at + 1] === chain);
  if (!lines.some(jumps)) {
    throw new Failure(
      "chain_not_reached",
      `no fragment in ${directory} jumps to the chain ${chain} of the nat table, so its rules would never match; add ` +
        `'-A PREROUTING -m addrtype --dst-type LOCAL -j ${chain}' where it is declared`,
      { chain, path: directory },
    );
  }
}
