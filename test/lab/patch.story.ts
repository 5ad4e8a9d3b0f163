/*
 * The text of a patch given to the real iptables-restore --noflush of both backends, for random hosts: the kernel then
 * has the rules that the model in test/rules says, and every rule that was not touched has its counters.
 */

import fc from "fast-check";
import { describe, expect } from "vitest";
import { readLive } from "../../src/rules/live.ts";
import { goalOf, patchText } from "../../src/rules/patch.ts";
import { anyCase, applyPatch, type Model, saveModel } from "../rules/patch-model.ts";
import { story } from "./story.ts";

const CASES = 300;

/** A line that no iptables prints; the next case follows. */
const NEXT = "=== next";

describe.each(["nft", "legacy"])("iptables-%s", (backend) => {
  story(`does with ${CASES} patches what the model says, and leaves counters alone`, async ({ lab }) => {
    const host = await lab.host({ name: "web1" });
    const cases = fc.sample(anyCase, { seed: 21, numRuns: CASES }).flatMap(({ live, fragments }) => {
      const running = readLive(saveModel(live));
      const text = patchText(goalOf(fragments, [], running), running);
      return text === undefined ? [] : [{ live, text, after: applyPatch(live, text) }];
    });
    expect(cases.length).toBeGreaterThan(CASES / 2);
    const script = cases.map(({ live, text }) =>
      [
        `unshare -n sh <<'CASE'`,
        `xtables-${backend}-multi iptables-restore --counters <<'LIVE'`,
        `${saveModel(live, ({ id }) => `[${counters(id)}] `)}LIVE`,
        `xtables-${backend}-multi iptables-restore --wait 5 --noflush <<'PATCH'`,
        `${text}PATCH`,
        `xtables-${backend}-multi iptables-save -c`,
        "CASE",
        `echo '${NEXT}'`,
      ].join("\n"),
    );
    const { stdout, stderr } = await host.run("sh", [], { input: `${script.join("\n")}\n` });
    expect(stderr).toBe("");
    const saved = stdout.split(`${NEXT}\n`);
    for (const [index, { text, after }] of cases.entries()) {
      expect(rulesOf(saved[index] ?? ""), text).toEqual(expectedRules(after));
    }
  });
});

/** Each rule that was there has counters of its own; a new one has none. */
function counters(id: number | undefined): string {
  return id === undefined ? "0:0" : `${id + 1}:${(id + 1) * 100}`;
}

function expectedRules(model: Model): string[] {
  const lines = [...model].flatMap(([table, chains]) =>
    [...chains].flatMap(([chain, rules]) =>
      rules.map(({ id, spec }, at) => `${table} ${chain} ${at}: [${counters(id)}] ${spec}`),
    ),
  );
  return lines.sort();
}

function rulesOf(saved: string): string[] {
  const lines: string[] = [];
  const places = new Map<string, number>();
  let table = "";
  for (const line of saved.split("\n")) {
    if (line.startsWith("*")) table = line.slice(1);
    const [, counts, chain, spec] = /^(\[\d+:\d+\]) -A (\S+) (.*)$/.exec(line) ?? [];
    if (counts === undefined) continue;
    const place = `${table} ${chain}`;
    const at = places.get(place) ?? 0;
    places.set(place, at + 1);
    lines.push(`${place} ${at}: ${counts} ${spec}`);
  }
  return lines.sort();
}
