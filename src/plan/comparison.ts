// How fragments of ours compare with their files and the kernel, for --verbose. Pure.

import { hasFileChanges, type Item } from "./item.ts";

const MOST_SHOWN = 100;

/** A line for all, then one for each that differs. `asked` is what they were compared with. */
export function describeComparison(items: readonly Item[], asked: "files and kernel" | "kernel"): string[] {
  const differing = items.flatMap((item) => {
    const words = [...(asked === "kernel" ? [] : fileWords(item)), ...kernelWords(item)];
    return words.length === 0 ? [] : [`  ${item.path}: ${words.join("; ")}`];
  });
  const more = differing.length - MOST_SHOWN;
  return [
    `compare: ${asked} with fragments, ${differing.length} of ${items.length} out of sync`,
    ...differing.slice(0, MOST_SHOWN),
    ...(more > 0 ? [`  and ${more} more`] : []),
  ];
}

function fileWords(item: Item): string[] {
  if (!hasFileChanges(item)) return [];
  if (item.before === undefined) return ["the file is missing"];
  return [item.after === undefined ? "the file is to be removed" : "the file differs"];
}

function kernelWords({ drift }: Item): string[] {
  if (drift === undefined) return [];
  const { missing, surplus, disordered, ahead, unreached } = drift;
  return [
    ...(missing[0] ? [`the kernel lacks ${missing.length} rules, first '${missing[0]}'`] : []),
    ...(surplus > 0 ? [`the kernel has ${surplus} rules that are not in the fragment`] : []),
    ...(disordered ? ["the rules are in a different order in the kernel"] : []),
    ...(ahead === undefined ? [] : [`'${ahead}' comes first`]),
    ...(unreached === undefined ? [] : [`nothing jumps to ${unreached}`]),
  ];
}
