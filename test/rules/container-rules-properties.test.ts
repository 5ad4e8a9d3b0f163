// What holds for the fragments of every container: stable bytes, no drift against themselves, never wider than asked.
// The grammar below is written down a second time on purpose: it shares nothing with the code that spells the rules.

import fc from "fast-check";
import { expect, test } from "vitest";
import { assemble, textOf } from "../../src/iptables/assemble.ts";
import { readFragment } from "../../src/iptables/fragment-text.ts";
import { compareLive, hasDrift, readLive } from "../../src/iptables/live.ts";
import { type Outcome, outcomeOf } from "./pipeline.ts";
import { shuffled, type World, world } from "./worlds.ts";

const RUNS = { seed: 3, numRuns: 400 };
const FAMILIES = ["ipv4", "ipv6"] as const;

test("the same container gives the same bytes and words, in whatever order the client lists it", () => {
  const property = fc.property(world, fc.nat(), ({ given }, seed) => {
    const { fragments, warnings, notPublished } = outcomeOf(given);
    const again = outcomeOf(shuffled(given, seed));
    expect({ fragments: again.fragments, warnings: again.warnings, notPublished: again.notPublished }).toEqual({
      fragments,
      warnings,
      notPublished,
    });
  });
  fc.assert(property, RUNS);
});

test("a fragment reads back as the rules it was made of, and drifts not from itself, among others' rules too", () => {
  const property = fc.property(world, world, ({ given }, other) => {
    const { name, rules, fragments } = outcomeOf(given);
    for (const family of FAMILIES) {
      const wanted = new Map(Object.entries(rules[family]));
      const text = fragments[family] ?? "";
      expect(readFragment(text)).toEqual(wanted);
      const neighbour = outcomeOf(other.given);
      if (neighbour.name === name) continue;
      const chains = [given, other.given].map(({ args }) => String(args["chain"] ?? "DOCKER_CONTAINERS"));
      const base = `*nat\n${chains.map((chain) => `-A PREROUTING -j ${chain}\n`).join("")}COMMIT\n`;
      const texts = [base, text, neighbour.fragments[family] ?? ""];
      const all = texts.map((each, index) => ({ path: `/${index}`, text: each }));
      const { lines: loadedLines, problems } = assemble(all, [], readLive(""));
      const loaded = textOf({ lines: loadedLines });
      expect(problems).toEqual([]);
      const live = readLive(loaded);
      expect(hasDrift(compareLive(name, wanted, wanted, live))).toBe(false);
      expect(
        hasDrift(compareLive(neighbour.name, new Map(Object.entries(neighbour.rules[family])), new Map(), live)),
      ).toBe(false);
      // Without the container nothing of it may stay: every rule of its fragment is found as surplus.
      const count = [...wanted.values()].flat().length;
      expect(compareLive(name, new Map(), wanted, live)).toEqual({ missing: [], surplus: count, disordered: false });
    }
  });
  fc.assert(property, RUNS);
});

const COMMENT = '-m comment --comment "docker_iptables: (?<name>[^"]+)"';
const PORT = "-p (?<protocol>\\S+) -m \\k<protocol> --dport (?<port>\\d+)(:(?<last>\\d+))?";
/** After the address: the one port, or how a range maps; a range without either keeps its ports. */
const INSIDE = "(:(?<inside>\\d+)(-(?<insideLast>\\d+)/(?<base>\\d+))?)?";
const GRAMMAR = {
  ipv4: {
    trusted: new RegExp(`^-A PREROUTING -d (?<to>[\\d.]+)/32 -i (?<by>\\S+) ${COMMENT} -j ACCEPT$`),
    direct: new RegExp(`^-A PREROUTING -d (?<to>[\\d.]+)/32 ! -i (?<bridge>\\S+) ${COMMENT} -j DROP$`),
    loopback: new RegExp(`^-A PREROUTING -d (?<to>127[\\d.]+)/32 ! -i lo ${PORT} ${COMMENT} -j DROP$`),
    hairpin: new RegExp(
      `^-A POSTROUTING -s (?<source>[\\d.]+/\\d+) -d (?<address>[\\d.]+)/32 ${PORT} ${COMMENT} -j MASQUERADE$`,
    ),
    dnat: new RegExp(
      `^-A DOCKER_CONTAINERS (-d (?<to>[\\d.]+)/32 )?(! -i (?<bridge>\\S+) )?${PORT} ${COMMENT} ` +
        `-j DNAT --to-destination (?<address>[\\d.]+)${INSIDE}$`,
    ),
    accept: new RegExp(
      `^-A FORWARD -d (?<address>[\\d.]+)/32 ! -i (?<bridge>\\S+) -o \\k<bridge> ${PORT} ${COMMENT} -j ACCEPT$`,
    ),
  },
  ipv6: {
    trusted: new RegExp(`^-A PREROUTING -d (?<to>[\\da-f:]+)/128 -i (?<by>\\S+) ${COMMENT} -j ACCEPT$`),
    direct: new RegExp(`^-A PREROUTING -d (?<to>[\\da-f:]+)/128 ! -i (?<bridge>\\S+) ${COMMENT} -j DROP$`),
    loopback: /^never$/,
    hairpin: new RegExp(
      `^-A POSTROUTING -s (?<source>[\\da-f:]+/\\d+) -d (?<address>[\\da-f:]+)/128 ${PORT} ${COMMENT} -j MASQUERADE$`,
    ),
    dnat: new RegExp(
      `^-A DOCKER_CONTAINERS ! -s fe80::/10 (-d (?<to>[\\da-f:]+)/128 )?(! -i (?<bridge>\\S+) )?${PORT} ${COMMENT} ` +
        `-j DNAT --to-destination (\\[(?=[^ ]*\\]:))?(?<address>[\\da-f:]+)(\\](?=:))?${INSIDE}$`,
    ),
    accept: new RegExp(
      `^-A FORWARD -d (?<address>[\\da-f:]+)/128 ! -i (?<bridge>\\S+) -o \\k<bridge> ${PORT} ${COMMENT} -j ACCEPT$`,
    ),
  },
} as const;

type Groups = Record<string, string | undefined>;

/** The fragment's lines by what they are; a line that is none of them, or in another table, fails. */
function parse(text: string | undefined, family: "ipv4" | "ipv6", name: string) {
  const grammar = GRAMMAR[family];
  const found: Record<keyof typeof grammar, Groups[]> = {
    ...{ trusted: [], direct: [], loopback: [], dnat: [], hairpin: [], accept: [] },
  };
  const kinds = { raw: ["loopback", "trusted", "direct"], nat: ["dnat", "hairpin"], filter: ["accept"] } as const;
  let open: keyof typeof kinds | undefined;
  const [, head = "", ...lines] = (text ?? "").split("\n").slice(0, -1);
  for (const line of head.startsWith("# options: {") || head === "" ? lines : [head, ...lines]) {
    if (/^\*(raw|nat|filter)$/.test(line)) open = line.slice(1) as keyof typeof kinds;
    else if (line === "COMMIT") open = undefined;
    else {
      const kind = kinds[open as keyof typeof kinds].find((one) => grammar[one].test(line));
      if (kind === undefined) throw new Error(`not a rule that may be: ${line}`);
      const groups: Groups = { ...grammar[kind].exec(line)?.groups };
      expect(groups["name"]).toBe(name);
      found[kind].push(...portByPort(kind, groups));
    }
  }
  return found;
}

/** A rule for a range as one rule a port: what a packet to each of them meets. */
function portByPort(kind: string, groups: Groups): Groups[] {
  const { port, last, inside, insideLast, base } = groups;
  if (port === undefined) return [groups];
  const count = Number(last ?? port) - Number(port) + 1;
  expect(count).toBeGreaterThan(last === undefined ? 0 : 1);
  if (kind === "dnat") {
    if (last === undefined) expect([inside, insideLast]).toEqual([expect.stringMatching(/^\d+$/), undefined]);
    else if (inside !== undefined) expect([base, Number(insideLast)]).toEqual([port, Number(inside) + count - 1]);
  }
  return Array.from({ length: count }, (_, index) => ({
    ...groups,
    port: String(Number(port) + index),
    inside: String(Number(inside ?? port) + index),
  }));
}

/** What was published, as the rules of one family should have it. */
function bindings({ publishes }: World, family: "ipv4" | "ipv6") {
  const every = family === "ipv4" ? ["0.0.0.0", ""] : ["::"];
  const spelled = (ip: string) => (every.includes(ip) ? "" : ip === "2001:DB8:0:0::11" ? "2001:db8::11" : ip);
  return publishes
    .filter(({ hostIp }) => hostIp.includes(":") === (family === "ipv6"))
    .map((one) => ({ ...one, to: spelled(one.hostIp) }));
}

const unique = (texts: string[]) => [...new Set(texts)].sort();

test("never wider than asked, and never narrower", () => {
  const property = fc.property(world, (drawn) => {
    const outcome = outcomeOf(drawn.given);
    for (const family of FAMILIES) lookAt(drawn, outcome, family);
  });
  fc.assert(property, RUNS);
});

function lookAt(drawn: World, outcome: Outcome, family: "ipv4" | "ipv6"): void {
  const { args } = drawn.given;
  const { trusted, direct, loopback, dnat, hairpin, accept } = parse(outcome.fragments[family], family, outcome.name);
  const asked = bindings(drawn, family);
  if (family === "ipv6" && !args["ipv6"]) {
    expect(outcome.fragments.ipv6).toBeUndefined();
    return;
  }

  // All DNATs lead to one address of the container, on the bridge that has it, which docker-proxy serves if there is one.
  const bridgeOf = new Map(drawn.addresses.map(({ address, bridge }) => [address, bridge]));
  for (const { address, bridge } of dnat) {
    expect(bridge).toBe(drawn.hairpin ? undefined : bridgeOf.get(address ?? ""));
  }
  const targets = unique(dnat.map(({ address }) => `${address} ${bridgeOf.get(address ?? "")}`));
  expect(targets.length).toBeLessThanOrEqual(1);
  const owned = drawn.addresses.map(({ address, bridge }) => `${address} ${bridge}`);
  for (const target of targets) expect(owned).toContain(target);
  // A network that routes is not the one, unless there is no other.
  const modeOf = ({ bridge, internal }: World["addresses"][number]) =>
    internal ? "nat" : drawn.access[bridge]?.[family];
  const here = drawn.addresses.filter(({ address }) => address.includes(":") === (family === "ipv6"));
  const routed = here.filter((one) => modeOf(one) === "routed");

  // Every DNAT is a publish, and every publish is a DNAT or reported as none.
  const made = dnat.map(({ to, port, protocol, inside }) => `${to ?? ""} ${port} ${protocol} ${inside}`);
  const wanted = unique(asked.map((one) => `${one.to} ${one.hostPort} ${one.protocol} ${one.containerPort}`));
  expect(made).toEqual([...new Set(made)]);
  if (made.length > 0) expect([...made].sort()).toEqual(wanted);
  else if (wanted.length > 0) expect(outcome.warnings.join()).toMatch(/no (IPv[46] )?address/);

  // Each 127.x has its guard, and nothing else has one.
  const guarded = loopback.map(({ to, port, protocol }) => `${to} ${port} ${protocol}`);
  const local = dnat.filter(({ to }) => to?.startsWith("127."));
  expect(unique(guarded)).toEqual(unique(local.map(({ to, port, protocol }) => `${to} ${port} ${protocol}`)));

  // Accepted is what a DNAT leads to, and where a network routes the container's own ports, each once.
  const opened = drawn.directs.filter(({ hostIp }) => hostIp.includes(":") === (family === "ipv6"));
  const accepted = accept.map(({ address, bridge, port, protocol }) => `${address} ${bridge} ${port} ${protocol}`);
  expect(accepted).toEqual([...new Set(accepted)]);
  expect([...accepted].sort()).toEqual(
    unique([
      ...dnat.map(({ address, inside, protocol }) => `${address} ${bridgeOf.get(address ?? "")} ${inside} ${protocol}`),
      ...routed.flatMap(({ address, bridge }) =>
        opened.map(({ containerPort, protocol }) => `${address} ${bridge} ${containerPort} ${protocol}`),
      ),
    ]),
  );

  // Without docker-proxy the container's own packets return to it masqueraded; its bridge peers' only where they bypass iptables.
  const masked = hairpin.map(({ source, address, port, protocol }) => `${source} ${address} ${port} ${protocol}`);
  const bypassed = !drawn.given.proxying?.filtered.includes(family);
  const networkOf = new Map(drawn.addresses.map(({ address, network }) => [address, network]));
  const sourceOf = (address: string) =>
    bypassed ? networkOf.get(address) : `${address}/${family === "ipv4" ? 32 : 128}`;
  expect(masked).toEqual([...new Set(masked)]);
  expect([...masked].sort()).toEqual(
    drawn.hairpin
      ? unique(dnat.map((one) => `${sourceOf(one.address ?? "")} ${one.address} ${one.inside} ${one.protocol}`))
      : [],
  );

  // With guards every address of the family is closed to other interfaces, but for those that its network trusts, unless the network lets
  // others in; without rules there is nothing to guard.
  const closed = direct.map(({ to, bridge }) => `${to} ${bridge}`);
  const guarding = args["guards"] && accept.length > 0;
  const filtered = here.filter((one) => !/^(routed|nat-unprotected)$/.test(modeOf(one) ?? ""));
  expect([...closed].sort()).toEqual(
    guarding ? filtered.map(({ address, bridge }) => `${address} ${bridge}`).sort() : [],
  );
  const trusting = filtered.filter(({ internal }) => !internal);
  const past = trusting.flatMap(({ address, bridge }) =>
    (drawn.access[bridge]?.trusted ?? []).map((by) => `${address} ${by}`),
  );
  expect(trusted.map(({ to, by }) => `${to} ${by}`).sort()).toEqual(guarding ? past.sort() : []);
}

test("a rule for one host address comes before the rule for every address of the same port", () => {
  const property = fc.property(world, ({ given }) => {
    const { name, fragments } = outcomeOf(given);
    for (const family of FAMILIES) {
      const seen = new Set<string>();
      for (const { to, port, protocol } of parse(fragments[family], family, name).dnat) {
        if (to === undefined) seen.add(`${port} ${protocol}`);
        else expect(seen).not.toContain(`${port} ${protocol}`);
      }
    }
  });
  fc.assert(property, RUNS);
});

test("no two rules could be one", () => {
  const property = fc.property(world, ({ given }) => {
    for (const { rules } of [outcomeOf(given)]) {
      for (const rule of FAMILIES.flatMap((family) => Object.values(rules[family]).flat())) {
        const at = rule.indexOf("--dport");
        if (at < 0 || rule.includes("DROP")) continue;
        const [first = 0, last = first] = (rule[at + 1] ?? "").split(":").map(Number);
        const next = FAMILIES.flatMap((family) => Object.values(rules[family]).flat()).find(
          (other) => other[at + 1]?.split(":")[0] === String(last + 1) && sameButPorts(rule, other, last + 1 - first),
        );
        expect(next).toBeUndefined();
      }
    }
  });
  fc.assert(property, RUNS);
});

/** Whether two rules differ by nothing but their ports, the second's being so many further on. */
function sameButPorts(rule: readonly string[], other: readonly string[], further: number): boolean {
  const at = rule.indexOf("--dport");
  const inside = (one: readonly string[]) => {
    const port = Number((one[at + 1] ?? "").split(":")[0]);
    const [, told] = /[\].\da-f]:(\d+)(-\d+\/\d+)?$/.exec(one.at(-1) ?? "") ?? [];
    return one[one.length - 2] === "--to-destination" && told !== undefined ? Number(told) : port;
  };
  const address = (one: readonly string[]) => (one.at(-1) ?? "").replace(/\]?:\d+(-\d+\/\d+)?$/, "").replace("[", "");
  const rest = (one: readonly string[]) => one.slice(0, -1).filter((_, index) => index !== at + 1);
  return (
    rest(rule).join(" ") === rest(other).join(" ") &&
    address(rule) === address(other) &&
    inside(other) - inside(rule) === further
  );
}

test("the worlds are not empty: most have rules, each kind of rule occurs", () => {
  const worlds = fc.sample(world, { seed: 3, numRuns: 200 }).map(({ given }) => outcomeOf(given));
  const text = worlds.flatMap(({ fragments }) => [fragments.ipv4 ?? "", fragments.ipv6 ?? ""]).join("\n");
  expect(worlds.filter(({ fragments }) => fragments.ipv4 || fragments.ipv6).length).toBeGreaterThan(100);
  for (const part of [
    "! -i lo ",
    "--to-destination [",
    "-d 127.",
    "-p sctp",
    "-d ::1/128",
    "--dport 8000:",
    "/8000\n",
    "-s 172.20.0.0/16 ",
    "/32 -i eth0 ",
    "/128 -i wg0 ",
  ])
    expect(text).toContain(part);
  const all = worlds.flatMap(({ fragments }) => [fragments.ipv4 ?? "", fragments.ipv6 ?? ""]);
  const isRoutedAlone = (one: string) => one.includes("*filter") && !one.includes("*nat");
  expect(all.filter(isRoutedAlone).length).toBeGreaterThan(1);
});
