// Our table as it ran, for the next run (netfilter/kept.ts, whose FORMAT changes with this). Pure.

import type { NftChain, NftSet, NftTable } from "./table.ts";

/** Maps as lists of their entries. */
interface TableJson {
  sets: [string, Omit<NftSet, "elements"> & { elements: [string, { value?: string; comment?: string }][] }][];
  chains: [string, NftChain][];
}

export function tableAsJson({ sets, chains }: NftTable): unknown {
  const listed = [...sets].map(([name, set]) => [name, { ...set, elements: [...set.elements] }]);
  return { sets: listed, chains: [...chains] };
}

/** What `tableAsJson` made, in JSON and back; undefined for nothing. Throws TypeError for anything else. */
export function tableFromJson(json: unknown): NftTable | undefined {
  if (json === undefined) return undefined;
  const { sets, chains } = json as TableJson;
  const read = sets.map(([name, set]) => {
    const elements = set.elements.map(([key, { value, comment }]) => [key, { value, comment }] as const);
    return [name, { ...set, elements: new Map(elements) }] as const;
  });
  return {
    sets: new Map(read),
    chains: new Map(chains.map(([name, chain]) => [name, { ...chain, hook: chain.hook }])),
  };
}
