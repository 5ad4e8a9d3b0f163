// patchText: our rules exchanged, all others where they are.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { managedHeader } from "../../src/iptables/fragment-text.ts";
import { readLive, type Tables } from "../../src/iptables/live.ts";
import { goalOf, goalOfSnapshot, patchText } from "../../src/iptables/patch.ts";
import { commentOf, readWords } from "../../src/iptables/rule.ts";
import { readTables } from "../../src/iptables/table-text.ts";
import { growth, SQUARE } from "./growth.ts";
import { anyCase, applyPatch, type Case, FRONT, isBare, isCommented, type Model, saveModel } from "./patch-model.ts";

/** A rule of ours; a foreign one when there is no container. */
function rule(address: string, container?: string): string {
  const comment = container === undefined ? "" : ` -m comment --comment "${commentOf(container)}"`;
  return `-A FORWARD -d ${address}/32${comment} -j ACCEPT`;
}

const filter = (...lines: string[]) => ["*filter", ...lines, "COMMIT", ""].join("\n");
const own = (container: string, ...addresses: string[]) => ({
  text: `${managedHeader(container)}\n${filter(...addresses.map((address) => rule(address, container)))}`,
});
const stranger = (...addresses: string[]) => ({ text: filter(...addresses.map((address) => rule(address))) });
const live = (...lines: string[]) => readLive(filter(":FORWARD DROP [3:180]", ...lines));

function patch(
  fragments: { text: string }[],
  running: ReturnType<typeof readLive>,
  former: readonly Tables[] = [],
): string[] | undefined {
  return patchText(goalOf(fragments, former, running), running)
    ?.split("\n")
    .filter((line) => line !== "" && line !== "*filter" && line !== "COMMIT");
}

const spec = (line: string) => line.replace("-A FORWARD ", "");

describe("nothing to do", () => {
  test.each([
    ["nothing wanted, nothing there", [], live()],
    ["strangers only", [stranger("1.0.0.1")], live(rule("1.0.0.2"))],
    [
      "all there",
      [own("web", "1.0.0.1", "1.0.0.2")],
      live(rule("1.0.0.1", "web"), rule("9.9.9.9"), rule("1.0.0.2", "web")),
    ],
    [
      "a stranger's rule of which nothing is live",
      [own("web", "1.0.0.1"), stranger("3.0.0.1")],
      live(rule("1.0.0.1", "web")),
    ],
    [
      "before a stranger's that comes later",
      [own("web", "1.0.0.1"), stranger("3.0.0.1")],
      live(rule("1.0.0.1", "web"), rule("3.0.0.1")),
    ],
  ])("%s", (_what, fragments, running) => {
    expect(patch(fragments, running)).toBeUndefined();
  });
});

describe("where a new rule is put", () => {
  test("without an anchor it is appended", () => {
    expect(patch([own("web", "1.0.0.1")], live(rule("9.9.9.9")))).toEqual([rule("1.0.0.1", "web")]);
  });

  test("without an anchor, but before what ends the chain for every packet", () => {
    const running = live(rule("9.9.9.9"), "-A FORWARD -j REJECT --reject-with icmp-host-prohibited", rule("8.8.8.8"));
    expect(patch([own("web", "1.0.0.1", "1.0.0.2")], running)).toEqual([
      `-I FORWARD 2 ${spec(rule("1.0.0.1", "web"))}`,
      `-I FORWARD 3 ${spec(rule("1.0.0.2", "web"))}`,
    ]);
  });

  test("before a live rule that a later fragment declares, after one that an earlier declares", () => {
    const running = live(rule("9.9.9.9"), rule("2.0.0.1"), rule("8.8.8.8"), rule("3.0.0.1"), rule("7.7.7.7"));
    expect(patch([stranger("2.0.0.1"), own("web", "1.0.0.1"), stranger("3.0.0.1")], running)).toEqual([
      `-I FORWARD 4 ${spec(rule("1.0.0.1", "web"))}`,
    ]);
    expect(patch([own("web", "1.0.0.1"), stranger("2.0.0.1", "3.0.0.1")], running)).toEqual([
      `-I FORWARD 2 ${spec(rule("1.0.0.1", "web"))}`,
    ]);
    expect(patch([stranger("2.0.0.1", "3.0.0.1"), own("web", "1.0.0.1")], running)).toEqual([rule("1.0.0.1", "web")]);
  });

  test("next to those of ours that are there", () => {
    const running = live(rule("2.0.0.2", "db"), rule("9.9.9.9"));
    expect(patch([own("app", "1.0.0.1"), own("db", "2.0.0.2"), own("web", "3.0.0.3")], running)).toEqual([
      `-I FORWARD 1 ${spec(rule("1.0.0.1", "app"))}`,
      `-I FORWARD 3 ${spec(rule("3.0.0.3", "web"))}`,
    ]);
  });

  test("foreign rules that are live in a different order than declared are anchors as far as they agree", () => {
    const running = live(rule("3.0.0.2"), rule("2.0.0.1"), rule("3.0.0.1"));
    expect(patch([stranger("2.0.0.1"), own("web", "1.0.0.1"), stranger("3.0.0.1", "3.0.0.2")], running)).toEqual([
      `-I FORWARD 3 ${spec(rule("1.0.0.1", "web"))}`,
    ]);
  });
});

describe("a rule that we insert", () => {
  const jump = rule("3.0.0.9", "base");
  const base = { text: `${managedHeader("base")}\n${filter(jump.replace("-A", "-I"), rule("1.0.0.1", "base"))}` };
  const first = `-I FORWARD 1 ${spec(jump)}`;

  test("is put first, whatever a foreign fragment has before it, and the others of its fragment in their usual places", () => {
    const running = live(rule("2.0.0.1"), rule("9.9.9.9"), "-A FORWARD -j DROP");
    const next = `-I FORWARD 4 ${spec(rule("1.0.0.1", "base"))}`;
    expect(patch([stranger("2.0.0.1"), base], running)).toEqual([first, next]);
    expect(patch([base], live())).toEqual([jump, rule("1.0.0.1", "base")]);
  });

  test("is put before what others insert, also after it", () => {
    const inserting = { text: filter(rule("2.0.0.1").replace("-A", "-I")) };
    const running = live(rule("2.0.0.1"), rule("1.0.0.1", "base"));
    expect(patch([base, inserting], running)).toEqual([first]);
    expect(patch([base, inserting], live(jump, rule("2.0.0.1"), rule("1.0.0.1", "base")))).toBeUndefined();
  });

  test("is moved to the front when another rule was inserted before it, or it was moved; else it stays", () => {
    const gone = `-D FORWARD ${spec(jump)}`;
    const next = rule("1.0.0.1", "base");
    expect(patch([base], live(rule("9.9.9.9"), jump, next))).toEqual([gone, first]);
    expect(patch([base], live(rule("9.9.9.9"), next, jump))).toEqual([gone, first]);
    expect(patch([base], live(next, jump))).toHaveLength(2);
    expect(patch([base], live(jump, rule("9.9.9.9"), next))).toBeUndefined();
  });

  test("that is there: new rules of ours do not come before it", () => {
    const web = own("web", "1.0.0.2");
    const added = rule("1.0.0.2", "web");
    expect(patch([base, web], live(jump, "-A FORWARD -j DROP"))).toEqual([
      `-I FORWARD 2 ${spec(rule("1.0.0.1", "base"))}`,
      `-I FORWARD 3 ${spec(added)}`,
    ]);
    expect(patch([base, web, stranger("2.0.0.1")], live(jump, rule("2.0.0.1")))).toHaveLength(2);
  });

  test("is removed with its fragment", () => {
    expect(patch([], live(jump, rule("9.9.9.9")))).toEqual([`-D FORWARD ${spec(jump)}`]);
  });
});

test("a foreign insertion is an anchor at its place", () => {
  const inserting = { text: filter(rule("2.0.0.2").replace("FORWARD", "FORWARD 2").replace("-A", "-I")) };
  const running = live(rule("2.0.0.1"), rule("2.0.0.2"), rule("3.0.0.1"));
  expect(patch([stranger("2.0.0.1"), own("web", "1.0.0.1"), stranger("3.0.0.1"), inserting], running)).toEqual([
    `-I FORWARD 3 ${spec(rule("1.0.0.1", "web"))}`,
  ]);
});

describe("what goes", () => {
  test("every live rule with a comment of ours that no fragment has, by its spelling", () => {
    const running = live(rule("1.0.0.1", "gone"), rule("1.0.0.2"), rule("1.0.0.2", "web"));
    expect(patch([own("web", "1.0.0.2")], running)).toEqual([`-D FORWARD ${spec(rule("1.0.0.1", "gone"))}`]);
  });

  test("the original script's rules, known from the fragment that was replaced", () => {
    const former = [new Map([["filter", [readWords("-A FORWARD -d 1.0.0.1 -j ACCEPT")]]])];
    const running = live(rule("1.0.0.1"), rule("1.0.0.2"));
    expect(patch([], running, former)).toEqual([`-D FORWARD ${spec(rule("1.0.0.1"))}`]);
    expect(patch([stranger("1.0.0.1")], running, former)).toBeUndefined();
    expect(patch([], live(rule("1.0.0.2")), former)).toBeUndefined();
  });

  test("a rule that is there twice: -D takes the first, so both go and one comes", () => {
    const running = live(rule("1.0.0.1", "web"), rule("9.9.9.9"), rule("1.0.0.1", "web"));
    const lines = patch([own("web", "1.0.0.1")], running);
    const gone = `-D FORWARD ${spec(rule("1.0.0.1", "web"))}`;
    expect(lines).toEqual([gone, gone, rule("1.0.0.1", "web")]);
  });

  test("a rule that is there twice, wanted twice, on two sides of an anchor: half of it cannot move", () => {
    const twice = [own("web", "1.0.0.1"), stranger("3.0.0.1"), own("web", "1.0.0.1")];
    const [first, anchor] = [rule("1.0.0.1", "web"), rule("3.0.0.1")];
    expect(patch(twice, live(first, anchor, first))).toBeUndefined();
    const gone = `-D FORWARD ${spec(first)}`;
    expect(patch(twice, live(anchor, first, first))).toEqual([gone, gone, `-I FORWARD 1 ${spec(first)}`, first]);
  });

  test("what a fragment of ours and a stranger's both declare stays the stranger's once it is live", () => {
    const both = [{ text: `${managedHeader("base")}\n${filter(rule("1.0.0.1"))}` }, stranger("1.0.0.1")];
    expect(patch(both, live())).toEqual([rule("1.0.0.1")]);
    expect(patch(both, live(rule("1.0.0.1")))).toBeUndefined();
  });

  test("a rule on the wrong side of an anchor moves; its neighbours stay", () => {
    const running = live(rule("1.0.0.1", "web"), rule("3.0.0.1"), rule("1.0.0.2", "web"));
    expect(patch([own("web", "1.0.0.1", "1.0.0.2"), stranger("3.0.0.1")], running)).toEqual([
      `-D FORWARD ${spec(rule("1.0.0.2", "web"))}`,
      `-I FORWARD 2 ${spec(rule("1.0.0.2", "web"))}`,
    ]);
  });
});

describe("tables and chains that are not live", () => {
  const fragment = (mark: string, table: string, ...lines: string[]) => ({
    text: [mark, `*${table}`, ...lines, "COMMIT", ""].join("\n"),
  });
  const dnat = `-A DOCKER_CONTAINERS -p tcp -m tcp --dport 80 -m comment --comment "${commentOf("web")}" -j DNAT --to-destination 1.0.0.1:80`;
  const jump = "-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER_CONTAINERS";
  const base = fragment("", "nat", ":DOCKER_CONTAINERS - [0:0]", ":OTHERS - [0:0]", jump, "-A OTHERS -j RETURN");
  const web = fragment(managedHeader("web"), "nat", dnat);
  const text = (fragments: { text: string }[], running: string) => {
    const state = readLive(running);
    return patchText(goalOf(fragments, [], state), state);
  };

  test("a table", () => {
    const guard = `-A PREROUTING -d 1.0.0.1/32 -m comment --comment "${commentOf("web")}" -j DROP`;
    expect(text([fragment(managedHeader("web"), "raw", guard)], "")).toBe(`*raw\n${guard}\nCOMMIT\n`);
  });

  test("our chain, and the jump to it, though a foreign fragment has them; nothing else of that fragment", () => {
    expect(text([base, web], "")).toBe(`*nat\n-N DOCKER_CONTAINERS\n${jump}\n${dnat}\nCOMMIT\n`);
  });

  test("a live jump is a jump, however it is spelled", () => {
    const running = "*nat\n:DOCKER_CONTAINERS - [0:0]\n-A PREROUTING -j DOCKER_CONTAINERS\nCOMMIT\n";
    expect(text([base, web], running)).toBe(`*nat\n${dnat}\nCOMMIT\n`);
  });

  test("nothing is created for the last container that is removed", () => {
    expect(text([base], "")).toBeUndefined();
  });

  test("a base of ours is ours as a whole, also where its rules have no comment", () => {
    const marked = { text: `${managedHeader("base")}\n${base.text}` };
    const made = text([marked, web], "*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n") ?? "";
    expect(made).toContain("-N OTHERS");
    expect(made).toContain("-A OTHERS -j RETURN");
    const after = "*nat\n:DOCKER_CONTAINERS - [0:0]\n:OTHERS - [0:0]\n";
    expect(text([marked, web], `${after}${jump}\n-A OTHERS -j RETURN\n${dnat}\nCOMMIT\n`)).toBeUndefined();
  });

  test("a foreign broken fragment does not matter", () => {
    const broken = { text: "hello\n*filter\n-A FORWARD --nonsense\n:\n" };
    expect(text([base, broken, web], "")).toBe(text([base, web], ""));
  });
});

test("the rollback restores our rules as they were, also those that no fragment has, and keeps what was added since", () => {
  const before = live(rule("1.0.0.1", "old"), rule("9.9.9.9"), rule("1.0.0.2", "old"));
  const goal = goalOf([own("web", "1.0.0.3")], [], before);
  const now = live(rule("7.7.7.7"), rule("9.9.9.9"), rule("1.0.0.3", "web"));
  expect(patchText(goalOfSnapshot(before, goal), now)).toBe(
    filter(
      `-D FORWARD ${spec(rule("1.0.0.3", "web"))}`,
      `-I FORWARD 2 ${spec(rule("1.0.0.1", "old"))}`,
      rule("1.0.0.2", "old"),
    ),
  );
});

interface Wanted {
  spec: string;
  ours: boolean;
}

/** What the fragments declare for a chain, in order. */
function wantedOf({ fragments }: Case, table: string, chain: string): Wanted[] {
  const wanted = fragments.flatMap(({ text }) =>
    readTables(text).sections.flatMap((section) =>
      section.table !== table
        ? []
        : section.lines
            .filter((line) => line.text.slice(2).startsWith(` ${chain} `))
            .map((line) => ({
              spec: line.text.slice(`-A ${chain} `.length),
              ours: text.startsWith("# docker_iptables"),
            })),
    ),
  );
  return wanted.sort((a, b) => Number(b.spec === FRONT) - Number(a.spec === FRONT));
}

/** Which live rules are ours: those with the comment, and of a bare one as many as our fragments declare. */
function oursOf(rules: readonly { spec: string }[], wanted: readonly Wanted[]): boolean[] {
  const left = new Map<string, number>();
  for (const { spec } of wanted.filter(({ ours, spec }) => ours && isBare(spec)))
    left.set(spec, (left.get(spec) ?? 0) + 1);
  return rules.map(({ spec }) => {
    const more = left.get(spec) ?? 0;
    left.set(spec, more - 1);
    return isCommented(spec) || more > 0;
  });
}

function holds(given: Case): void {
  const running = readLive(saveModel(given.live));
  const text = patchText(goalOf(given.fragments, [], running), running);
  const after = text === undefined ? given.live : applyPatch(given.live, text);
  for (const [table, chain] of chainsOf(given.live, after)) {
    const before = given.live.get(table)?.get(chain) ?? [];
    const now = after.get(table)?.get(chain) ?? [];
    const wanted = wantedOf(given, table, chain);
    const wasOurs = oursOf(before, wanted);
    const strangers = before.filter((_rule, at) => !wasOurs[at]);
    const ids = new Set(strangers.map(({ id }) => id));
    expect(now.filter(({ id }) => id !== undefined && ids.has(id))).toEqual(strangers);
    const mine = now.filter(({ id }) => id === undefined || !ids.has(id)).map(({ spec }) => spec);
    expect(mine).toEqual(wanted.filter(({ ours }) => ours).map(({ spec }) => spec));
    anchorsHold(wanted, strangers, now);
    if (wanted[0]?.spec === FRONT) expect(now[0]?.spec).toBe(FRONT);
  }
  const settled = readLive(saveModel(after));
  expect(patchText(goalOf(given.fragments, [], settled), settled)).toBeUndefined();
}

/** Where live and declared foreign rules agree on an order, our rules are between the same ones in both. */
function anchorsHold(
  wanted: readonly Wanted[],
  strangers: readonly { spec: string }[],
  now: readonly { spec: string }[],
): void {
  const theirs = wanted.filter(({ ours }) => !ours).map(({ spec }) => spec);
  const declared = new Set(theirs);
  const anchors = strangers.map(({ spec }) => spec).filter((spec) => declared.has(spec));
  const common = theirs.filter((spec) => anchors.includes(spec));
  if (new Set(theirs).size < theirs.length || common.join() !== anchors.join()) return;
  const shared = (specs: string[]) =>
    specs.filter((spec) => isCommented(spec) || isBare(spec) || anchors.includes(spec));
  const bare = now.filter(({ spec }) => isBare(spec)).length;
  if (bare > wanted.filter(({ spec }) => isBare(spec)).length) return;
  expect(shared(now.map(({ spec }) => spec))).toEqual(
    shared(wanted.filter(({ ours, spec }) => ours || anchors.includes(spec)).map(({ spec }) => spec)),
  );
}

function chainsOf(...models: Model[]): (readonly [string, string])[] {
  const all = models.flatMap((model) =>
    [...model].flatMap(([table, chains]) => [...chains.keys()].map((chain) => `${table} ${chain}`)),
  );
  return [...new Set(all)].map((name) => name.split(" ") as [string, string]);
}

test("for any live rules and any change: ours in order, foreign ones unmoved, anchors respected, a second patch is none", () => {
  fc.assert(fc.property(anyCase, holds), { seed: 11, numRuns: 1000 });
});

test("for any change the rollback leads to the rules of before", () => {
  const property = fc.property(anyCase, (given) => {
    const running = readLive(saveModel(given.live));
    const goal = goalOf(given.fragments, [], running);
    const text = patchText(goal, running);
    fc.pre(text !== undefined);
    const after = applyPatch(given.live, text ?? "");
    const back = patchText(goalOfSnapshot(running, goal), readLive(saveModel(after)));
    const restored = back === undefined ? after : applyPatch(after, back);
    for (const [table, chain] of chainsOf(given.live, restored)) {
      const specs = (model: Model) => (model.get(table)?.get(chain) ?? []).map(({ spec }) => spec);
      expect(specs(restored)).toEqual(specs(given.live));
    }
  });
  fc.assert(property, { seed: 12, numRuns: 500 });
});

test("one line for each rule that changes, and work that grows with their number, not with its square", () => {
  const grown = growth(500, (size) => {
    const addresses = Array.from({ length: size }, (_, n) => `10.0.${n >> 8}.${n & 255}`);
    const former = addresses.map((address) => rule(address, "old"));
    const running = live(...addresses.map((address) => rule(address)), ...former);
    return () => expect(patch([own("web", ...addresses), stranger("10.0.0.5")], running)).toHaveLength(2 * size);
  });
  expect(grown).toBeLessThan(SQUARE);
});
