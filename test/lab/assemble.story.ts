/*
 * Any fragments, loaded together by docker_iptables load, give the rules that iptables-restore --noflush gives when it
 * loads them one after another into empty tables. The oracle is the kernel: a network namespace beside the host's.
 */

import fc from "fast-check";
import { describe, expect } from "vitest";
import type { Host } from "./host.ts";
import { story } from "./story.ts";

const CHAINS: Record<string, string[]> = {
  filter: ["INPUT", "FORWARD", "OUTPUT"],
  mangle: ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"],
  raw: ["PREROUTING", "OUTPUT"],
};
/** In the order in which one may jump to the next, so that no draw makes a loop. */
const OWN = ["ONE", "TWO", "THREE", "FOUR"];

interface Drawn {
  table: string;
  chain: number;
  target: number;
  kind: "rule" | "policy" | "declare" | "create" | "comment";
  inserts: boolean;
  /** 0: in the section before, if it is of this table; 1: a section of its own; 2: a fragment of its own. */
  cut: number;
}

const drawn: fc.Arbitrary<Drawn> = fc.record({
  table: fc.constantFrom(...Object.keys(CHAINS)),
  chain: fc.nat(8),
  target: fc.nat(9),
  kind: fc.constantFrom("rule", "rule", "rule", "rule", "policy", "declare", "create", "comment"),
  inserts: fc.boolean(),
  cut: fc.constantFrom(0, 0, 0, 0, 1, 2),
});

/** Fragments of these lines, and the same for the oracle, where a chain that is declared again is not: that flushes it. */
function write(lines: readonly Drawn[]): { fragments: string[]; oracle: string[] } {
  const fragments: string[] = [""];
  const oracle: string[] = [""];
  const declared = new Set<string>();
  let open: string | undefined;
  const both = (text: string, oracles = text) => {
    fragments.push(fragments.pop() + text);
    oracle.push(oracle.pop() + oracles);
  };
  const close = () => {
    if (open !== undefined) both("COMMIT\n");
    open = undefined;
  };
  for (const [index, { table, chain, target, kind, inserts, cut }] of lines.entries()) {
    if (open !== table || cut > 0) close();
    if (cut === 2) {
      fragments.push("");
      oracle.push("");
    }
    if (open === undefined) both(`*${table}\n`);
    open = table;
    const builtIn = CHAINS[table] ?? [];
    const declare = (name: string | undefined, again: boolean) => {
      if (name === undefined) return;
      const known = declared.has(`${table} ${name}`);
      if (!known) both(kind === "create" ? `-N ${name}\n` : `:${name} - [0:0]\n`);
      else if (again) both(`:${name} - [0:0]\n`, "");
      declared.add(`${table} ${name}`);
    };
    const all = [...builtIn, ...OWN];
    const name = all[chain % all.length] ?? "";
    const own = OWN[chain % OWN.length];
    if (kind === "comment") both("# a comment: -A INPUT -j DROP\n\n");
    else if (kind === "policy") both(`:${builtIn[chain % builtIn.length]} ${inserts ? "DROP" : "ACCEPT"} [3:4]\n`);
    else if (kind === "declare" || kind === "create") declare(own, true);
    else {
      const later = OWN.slice(OWN.indexOf(name) + 1)[target];
      if (OWN.includes(name)) declare(name, false);
      declare(later, false);
      const match = `-m mark --mark ${index} -m comment --comment "rule ${index}, \\"quoted\\""`;
      both(`${inserts && target > 6 ? "-I" : "-A"} ${name} ${match} -j ${later ?? (inserts ? "DROP" : "ACCEPT")}\n`);
    }
  }
  close();
  return { fragments, oracle };
}

/** What runs, without counters and comments, and without tables that hold nothing: the order of chains is the kernel's. */
function rulesOf(saved: string): Record<string, string[]> {
  const tables: Record<string, string[]> = {};
  let table: string[] = [];
  for (const line of saved.split("\n")) {
    if (line.startsWith("*")) tables[line] = table = [];
    else if (line.startsWith(":")) table.push(line.replace(/ \[.*/, ""));
    else if (line.startsWith("-")) table.push(line);
  }
  const chainOf = (line: string) => line.split(" ")[1] ?? "";
  const told: Record<string, string[]> = {};
  for (const [name, lines] of Object.entries(tables)) {
    // On nft a table that was only named is there, with nothing but its built-in chains.
    if (lines.every((line) => /^:[A-Z]+ ACCEPT$/.test(line))) continue;
    const chains = lines.filter((line) => line.startsWith(":")).sort();
    const rules = lines.filter((line) => line.startsWith("-"));
    told[name] = [...chains, ...rules.sort((a, b) => chainOf(a).localeCompare(chainOf(b)))];
  }
  return told;
}

/** Both ways in fresh namespaces of the host; the two outputs of iptables-save. */
async function bothWays(host: Host, { fragments, oracle }: ReturnType<typeof write>) {
  const files = [
    ...fragments.map((text, index) => [`/run/case/d/${String(index).padStart(3, "0")}`, text]),
    ...oracle.map((text, index) => [`/run/case/o/${String(index).padStart(3, "0")}`, text]),
  ];
  const script = `
    unshare --net sh -ec 'docker_iptables load ipv4 --json --iptables-dir /run/case/d >&2; iptables-save'
    echo ORACLE
    unshare --net sh -ec 'for one in /run/case/o/*; do iptables-restore --noflush < "$one"; done; iptables-save'`;
  const writes = files.map(([path, text]) => `cat > ${path} <<'END OF FILE'\n${text}END OF FILE\n`).join("");
  const input = `set -e; rm -rf /run/case; mkdir -p /run/case/d /run/case/o\n${writes}${script}\n`;
  const { stdout, stderr, exitCode } = await host.run("sh", ["-s"], { input, check: false });
  const [ours = "", theirs = ""] = stdout.split("ORACLE\n");
  return { ours, theirs, stderr, exitCode };
}

describe.each(["nft", "legacy"] as const)("any fragments on iptables-%s", (backend) => {
  story("give what loading them one after another gives", async ({ lab }) => {
    const host = await lab.host({ name: "web1", backend, docker: { atBoot: false } });
    let rules = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(drawn, { minLength: 1, maxLength: 30 }), async (lines) => {
        const { ours, theirs, stderr, exitCode } = await bothWays(host, write(lines));
        expect(exitCode, stderr).toBe(0);
        expect(rulesOf(ours)).toEqual(rulesOf(theirs));
        rules += theirs.match(/^-A/gm)?.length ?? 0;
      }),
      { seed: 4, numRuns: 40 },
    );
    expect(rules).toBeGreaterThan(100);
  });
});
