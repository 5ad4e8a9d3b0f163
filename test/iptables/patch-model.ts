// A small model of a kernel that takes a patch, and random hosts to patch: for the property and for the real kernels.

import fc from "fast-check";
import { readLive } from "../../src/iptables/live.ts";
import { commentOf } from "../../src/iptables/rule.ts";

/** A live rule, known by its number wherever it moves; new ones have none. */
export interface ModelRule {
  id: number | undefined;
  spec: string;
}

/** Table -> chain -> rules. */
export type Model = Map<string, Map<string, ModelRule[]>>;

/** What `iptables-restore --noflush` makes of a live ruleset. Throws where it would fail. */
export function applyPatch(before: Model, text: string): Model {
  const model: Model = new Map([...before].map(([table, chains]) => [table, new Map(chains)]));
  let chains = new Map<string, ModelRule[]>();
  for (const line of text.trimEnd().split("\n")) {
    const [, option, chain = "", number, spec = ""] = /^(-N|-X|-D|-A|-I) (\S+)(?: (\d+))?(?: (.*))?$/.exec(line) ?? [];
    if (line.startsWith("*")) {
      chains = model.get(line.slice(1)) ?? new Map();
      model.set(line.slice(1), chains);
    } else if (option === "-N") {
      if (chains.has(chain)) throw new Error(`there already: ${line}`);
      chains.set(chain, []);
    } else if (option === "-X") {
      if (chains.get(chain)?.length !== 0) throw new Error(`not empty: ${line}`);
      chains.delete(chain);
    } else if (option !== undefined) {
      const rules = [...(chains.get(chain) ?? [])];
      if (option === "-D") {
        const at = rules.findIndex((rule) => rule.spec === spec);
        if (at < 0) throw new Error(`no such rule: ${line}`);
        rules.splice(at, 1);
      } else {
        const at = option === "-I" ? Number(number) - 1 : rules.length;
        if (at > rules.length) throw new Error(`too far: ${line}`);
        rules.splice(at, 0, { id: undefined, spec });
      }
      chains.set(chain, rules);
    } else if (line !== "COMMIT") throw new Error(`not for a patch: ${line}`);
  }
  return model;
}

export function saveModel(model: Model, linePrefix: (rule: ModelRule) => string = () => ""): string {
  return [...model]
    .flatMap(([table, chains]) => [
      `*${table}`,
      ...[...chains.keys()].map((chain) => `:${chain} ${/^[A-Z]+$/.test(chain) ? "ACCEPT" : "-"} [0:0]`),
      ...[...chains].flatMap(([chain, rules]) => rules.map((rule) => `${linePrefix(rule)}-A ${chain} ${rule.spec}`)),
      "COMMIT",
      "",
    ])
    .join("\n");
}

/** The chains of random hosts, each with a name that says its table. */
const PLACES = [
  ["filter", "FORWARD"],
  ["filter", "INPUT"],
  ["nat", "DOCKER_CONTAINERS"],
  ["raw", "PREROUTING"],
] as const;

const MARK = `# ${commentOf("any")} (generated: do not edit)`;

export interface Case {
  live: Model;
  fragments: { text: string }[];
}

export function isCommented(spec: string): boolean {
  return spec.includes(commentOf(""));
}

/** A rule of ours in a marked fragment may lack our comment; no other rule has this address. */
export function isBare(spec: string): boolean {
  return spec.startsWith("-s 10.9.");
}

const theirs = fc.oneof(
  { weight: 8, arbitrary: fc.nat(7).map((n) => `-s 10.1.0.${n}/32 -j ACCEPT`) },
  { weight: 1, arbitrary: fc.constant("-j RETURN") },
);
const ours = fc.oneof(
  {
    weight: 8,
    arbitrary: fc
      .tuple(fc.nat(5), fc.nat(2))
      .map(([n, who]) => `-s 10.2.0.${n}/32 -m comment --comment "${commentOf(`c${who}`)}" -j ACCEPT`),
  },
  { weight: 1, arbitrary: fc.nat(2).map((n) => `-s 10.9.0.${n}/32 -j ACCEPT`) },
);
/** A rule of ours that a fragment inserts: it comes before all others of FORWARD. */
export const FRONT = `-s 10.3.0.1/32 -m comment --comment "${commentOf("front")}" -j ACCEPT`;
const FRONT_PLACE = ["filter", "FORWARD"] as const;
const chainOf = fc.constantFrom(...PLACES);
const rules = (spec: fc.Arbitrary<string>, maxLength: number) => fc.array(fc.tuple(chainOf, spec), { maxLength });

/** Half of the hosts keep foreign rules in the order in which their fragments declare them, as a load leaves them. */
export const anyCase: fc.Arbitrary<Case> = fc
  .record({
    tidy: fc.boolean(),
    live: rules(fc.oneof(theirs, ours), 24),
    liveFronts: fc.array(fc.nat(24), { maxLength: 2 }),
    inserting: fc.option(fc.nat(6), { nil: undefined }),
    fragments: fc.array(
      fc.oneof(
        rules(theirs, 5).map((lines) => ({ mark: "", lines })),
        rules(ours, 6).map((lines) => ({ mark: MARK, lines })),
      ),
      { maxLength: 6 },
    ),
    tables: fc.subarray(["raw", "nat", "filter"]),
    chainIsLive: fc.boolean(),
  })
  .map(({ tidy, live: lines, liveFronts, inserting, fragments, tables, chainIsLive }) => {
    const live = [...lines];
    for (const at of liveFronts) live.splice(at, 0, [FRONT_PLACE, FRONT]);
    const model: Model = new Map(tables.map((table) => [table, new Map()]));
    if (chainIsLive) model.get("nat")?.set("DOCKER_CONTAINERS", []);
    const used = new Set<string>();
    let id = 0;
    for (const [[table, chain], spec] of tidy ? sortTheirs(live) : live) {
      const chains = model.get(table);
      if (chains === undefined || (chain === "DOCKER_CONTAINERS" && !chainIsLive)) continue;
      if (tidy && !isCommented(spec) && !isBare(spec) && used.has(`${table} ${chain} ${spec}`)) continue;
      used.add(`${table} ${chain} ${spec}`);
      chains.set(chain, [...(chains.get(chain) ?? []), { id: id++, spec }]);
    }
    const declared = new Set<string>();
    const texts = fragments.map(({ mark, lines }) => {
      const once = mark === "" ? lines.filter((line) => !declared.has(line.join(" "))) : lines;
      if (tidy) for (const line of once) declared.add(line.join(" "));
      return { text: fragmentText(mark, tidy ? once : lines) };
    });
    const base = { text: "*nat\n:DOCKER_CONTAINERS - [0:0]\nCOMMIT\n" };
    if (inserting !== undefined)
      texts.splice(inserting, 0, { text: `${MARK}\n*filter\n-I FORWARD ${FRONT}\nCOMMIT\n` });
    return { live: model, fragments: [base, ...texts] };
  });

type Line = [(typeof PLACES)[number], string];

/** Foreign rules sorted, ours where they are. */
function sortTheirs(lines: readonly Line[]): Line[] {
  const isTheirs = ([, spec]: Line) => !isCommented(spec) && !isBare(spec);
  const sorted = lines.filter(isTheirs).sort(([, a], [, b]) => (a < b ? -1 : 1));
  return lines.map((line) => (isTheirs(line) ? (sorted.shift() ?? line) : line));
}

function fragmentText(mark: string, lines: readonly Line[]): string {
  const tables = [...new Set(lines.map(([[table]]) => table))];
  const sections = tables.flatMap((name) => [
    `*${name}`,
    ...lines.filter(([[table]]) => table === name).map(([[, chain], spec]) => `-A ${chain} ${spec}`),
    "COMMIT",
  ]);
  return [mark, ...sections, ""].join("\n");
}

/** What `differenceText` gets: the lines of each table, as iptables-save prints them. */
export function linesOf(model: Model): Map<string, string[]> {
  const tables = [...readLive(saveModel(model)).tables];
  return new Map(
    tables.map(([name, { chains, lines }]) => [
      name,
      [...[...chains].map(([chain, policy]) => `:${chain} ${policy}`), ...lines],
    ]),
  );
}
