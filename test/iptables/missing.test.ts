// What is loaded at a boot in place of rules that cannot be: taken as empty, and in doubt as closed.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { inOrder } from "../../src/iptables/in-order.ts";
import { readLive } from "../../src/iptables/live.ts";
import { isNeeded, type Missing, withoutMissing, withoutRule, withoutStandIn } from "../../src/iptables/missing.ts";
import { type Packet, ruleWith, walk } from "../../src/iptables/packet.ts";

const MISSING: Missing = { sets: new Set(["gone", "lost"]), names: new Set(["no.where"]) };

function without(line: string, table: readonly string[] = []) {
  const stead = withoutMissing(line, MISSING, ["*filter", ...table, line]);
  return stead === undefined ? "as it is" : `${stead.line ?? "nothing"}${stead.denied ? " (denied)" : ""}`;
}

describe("a rule that depends on what is missing", () => {
  test.each([
    ["-A INPUT -i lo -j ACCEPT", "as it is"],
    ["-A INPUT -m set --match-set here src -j DROP", "as it is"],
    ['-A INPUT -m comment --comment "--match-set gone src" -j ACCEPT', "as it is"],
    ["-A INPUT -m comment --comment -s -m x --y no.where -j ACCEPT", "as it is"],
    // It matches nothing.
    ["-A INPUT -m set --match-set gone src -j ACCEPT", "nothing"],
    ["-A INPUT -m set --match-set gone src -j DROP", "nothing (denied)"],
    ["-A INPUT -m set --match-set gone src -j REJECT --reject-with tcp-reset", "nothing (denied)"],
    ["-A INPUT -m set --match-set gone src -m set ! --match-set lost src -j RETURN", "nothing"],
    ["-A INPUT -p tcp -j SET --add-set gone src", "nothing"],
    ["-A INPUT -s no.where -j DROP", "nothing (denied)"],
    ["-A INPUT --source no.where/24 -j ACCEPT", "nothing"],
    ["-A INPUT -m conntrack --ctorigsrc no.where -j DROP", "nothing (denied)"],
    // It matches all else.
    ["-A INPUT -p tcp -m set ! --match-set gone src -j DROP", "-A INPUT -p tcp -j DROP"],
    ["[1:2] -A INPUT -p tcp -m set ! --match-set gone src,dst -j REJECT", "-A INPUT -p tcp -j REJECT"],
    [
      "-A INPUT -m set ! --match-set gone src --return-nomatch ! --update-counters --packets-gt 5 -p tcp -j DROP",
      "-A INPUT -p tcp -j DROP",
    ],
    ["-A INPUT -m set --return-nomatch ! --match-set gone src ! -i lo -j DROP", "-A INPUT ! -i lo -j DROP"],
    ["-A INPUT --match set ! --match-set=gone src --jump DROP", "-A INPUT -j DROP"],
    [
      "-A INPUT -m set ! --match-set gone src -m set --match-set here dst --return-nomatch -j DROP",
      "-A INPUT -m set --match-set here dst --return-nomatch -j DROP",
    ],
    ["-A INPUT -m set ! --match-set gone src -m set ! --match-set lost dst -j DROP", "-A INPUT -j DROP"],
    ["-A INPUT -m set ! --match-set gone src -g later", "-A INPUT -g later"],
    ["-A INPUT ! -s no.where -p tcp -j DROP", "-A INPUT -p tcp -j DROP"],
    ["-A INPUT ! --dest no.where -j DROP", "-A INPUT -j DROP"],
    ["-A INPUT -m conntrack ! --ctorigsrc no.where -j DROP", "-A INPUT -j DROP"],
    [
      "-A INPUT -m conntrack --ctstate NEW ! --ctorigdst no.where -j DROP",
      "-A INPUT -m conntrack --ctstate NEW -j DROP",
    ],
    ["-j DROP -m set ! --match-set gone src -I INPUT 2", "-I INPUT 2 -j DROP"],
    // In doubt it is closed.
    ["-A INPUT -m set ! --match-set gone src -j ACCEPT", "nothing"],
    ["-A INPUT ! -s no.where -j ACCEPT", "nothing"],
    // What is known of a list stays.
    ["-A INPUT -s 192.0.2.1,no.where,192.0.2.2/24 -j DROP", "-A INPUT -s 192.0.2.1,192.0.2.2/24 -j DROP"],
    ["-A INPUT -s no.where,192.0.2.1 -j ACCEPT", "-A INPUT -s 192.0.2.1 -j ACCEPT"],
  ])("%s: %s", (line, stead) => {
    expect(without(line)).toBe(stead);
  });

  test("in nat an exception from a DNAT that depends on what is missing holds for all", () => {
    const line = "-A PREROUTING -m set ! --match-set gone src -j ACCEPT";
    expect(withoutMissing(line, MISSING, ["*nat", line])).toEqual({ line: "-A PREROUTING -j ACCEPT", denied: false });
  });

  test("what leads to a chain that denies, denies", () => {
    const chains = ["-A refuse -j LOG", "-A refuse -g end", "-A end -j DROP", "-A count -j RETURN", "-A loop -j loop"];
    expect(without("-A INPUT -m set --match-set gone src -j refuse", chains)).toBe("nothing (denied)");
    expect(without("-A INPUT -m set --match-set gone src -j count", chains)).toBe("nothing");
    expect(without("-A INPUT -m set --match-set gone src -j loop", chains)).toBe("nothing");
  });
});

describe("a rule that iptables refuses", () => {
  const CHAINS = [":refuse - [0:0]", ":allow - [0:0]", ":empty - [0:0]", "-A refuse -j DROP", "-A allow -j ACCEPT"];
  const ACCEPTS = "-A INPUT -p tcp --dport 22 -j ACCEPT";

  test.each([
    ["-A INPUT -m bad -j ACCEPT", [ACCEPTS], "nothing"],
    ["-A INPUT -m bad -j DROP", [ACCEPTS], "nothing (denied)"],
    ["-A INPUT -m bad -j LOG", [ACCEPTS], "nothing"],
    ["-A INPUT -m bad", [ACCEPTS], "nothing"],
    ["-A INPUT -m bad -j RETURN", [ACCEPTS], "-A INPUT -j DROP"],
    ["-A INPUT -m bad --jump RETURN", ["-A INPUT --jump allow"], "-A INPUT -j DROP"],
    ["-A INPUT -m bad -j RETURN", ["-A INPUT -j DROP", "-A FORWARD -j ACCEPT"], "nothing"],
    ["-A INPUT -m bad -j refuse", [ACCEPTS], "-A INPUT -j DROP"],
    ["-A INPUT -m bad -j refuse", ["-A INPUT -j DROP"], "nothing (denied)"],
    ["-A INPUT -m bad -j allow", [ACCEPTS], "nothing"],
    ["-A INPUT -m bad -g empty", [ACCEPTS], "-A INPUT -j DROP"],
    ["-A INPUT -m bad -j NEWTARGET", [ACCEPTS], "-A INPUT -j DROP"],
    ["-D INPUT -j DROP", [ACCEPTS], "nothing (denied)"],
    // What it is for is known: no other packets are blocked.
    [
      "-A INPUT -p tcp --dport 25 ! -s 192.0.2.1 -j NEWTARGET --on 1",
      [ACCEPTS],
      "-A INPUT -p tcp --dport 25 ! -s 192.0.2.1 -j DROP",
    ],
    [
      '-A INPUT -m comment --comment "-j" -i eth0 -g empty',
      [ACCEPTS],
      "-A INPUT -m comment --comment -j -i eth0 -j DROP",
    ],
    ["-A INPUT -p tcp -m bad --dport 25 -j NEWTARGET", [ACCEPTS], "-A INPUT -j DROP"],
  ])("%s before %j: %s", (line, following, stead) => {
    const table = ["*filter", ...CHAINS, line, ...following];
    const { line: instead, denied } = withoutRule(table, table.indexOf(line));
    expect(`${instead ?? "nothing"}${denied ? " (denied)" : ""}`).toBe(stead);
  });
});

describe("a rule of nat's that iptables refuses", () => {
  const DNAT = "-A PREROUTING -p tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80";

  test.each([
    ["-A PREROUTING -m bad ! --country DE -j RETURN", DNAT, "-A PREROUTING -j ACCEPT"],
    ["-A PREROUTING -m bad ! --country DE -j ACCEPT", DNAT, "-A PREROUTING -j ACCEPT"],
    ["-A PREROUTING -m bad -j past", DNAT, "-A PREROUTING -j ACCEPT"],
    ["-A PREROUTING -m bad -j back", DNAT, "nothing"],
    ["-A PREROUTING -m bad -j RETURN", "-A POSTROUTING -j MASQUERADE", "nothing"],
    ["-A POSTROUTING -m bad -j RETURN", "-A POSTROUTING -j MASQUERADE", "nothing"],
    ["-A PREROUTING -m bad -j DNAT --to-destination 172.17.0.2", DNAT, "nothing"],
  ])("%s before %s: %s", (line, following, stead) => {
    const table = ["*nat", "-A past -j ACCEPT", "-A back -j RETURN", line, following];
    expect(withoutRule(table, table.indexOf(line)).line ?? "nothing").toBe(stead);
  });
});

test("a rule's replacement is removed with the last that it closes, and matches all where it is refused itself", () => {
  const table = ["*mangle", "-A PREROUTING -p tcp --dport 80 -j TPROXY --on-port 1", "-A PREROUTING -j TPROXY"];
  const stead = withoutRule(table, 1);
  expect(stead).toMatchObject({ line: "-A PREROUTING -p tcp --dport 80 -j DROP", closes: true });
  expect(isNeeded([table[0] ?? "", stead.line ?? "", table[2] ?? ""], 1, stead)).toBe(true);
  expect(isNeeded([table[0] ?? "", stead.line ?? "", "#"], 1, stead)).toBe(false);
  const former = ["-A", "PREROUTING", "-j", "TPROXY"];
  const broad = withoutStandIn(stead.line ?? "", former, table);
  expect(broad.line).toBe("-A PREROUTING -j DROP");
  expect(withoutStandIn(broad.line ?? "", former, table).line).toBeUndefined();
});

const SOURCES = ["192.0.2.1", "192.0.2.2", "198.51.100.1"];
const PORTS = ["22", "80"];

/** A rule of a host's filter table, with conditions that the model of a packet knows, or that depend on what is missing. */
const condition = fc.oneof(
  fc.constantFrom("", "-p tcp", "-i lo", "! -i lo", ...PORTS.map((port) => `-p tcp -m tcp --dport ${port}`)),
  fc.constantFrom(...SOURCES.flatMap((source) => [`-s ${source}`, `! -s ${source}`])),
  fc.constantFrom(
    "-s no.where",
    "! -s no.where",
    "-s 192.0.2.1,no.where",
    "-m set --match-set gone src",
    "-m set ! --match-set gone src",
  ),
);
const rule = fc.record({
  chain: fc.constantFrom("INPUT", "INPUT", "INPUT", "ONE", "TWO"),
  conditions: fc.array(condition, { maxLength: 2 }),
  verdict: fc.constantFrom("-j ACCEPT", "-j DROP", "-j RETURN", "-j ONE", "-g ONE", "-j TWO", "-g TWO", "-j LOG"),
  place: fc.constantFrom("-A", "-A", "-A", "-I"),
});
const HEAD = ["*filter", ":INPUT DROP [0:0]", ":ONE - [0:0]", ":TWO - [0:0]"];

/** Two of one option in one rule are refused; chains lead only to later ones. */
function lineOf({ chain, conditions, verdict, place }: typeof rule extends fc.Arbitrary<infer T> ? T : never): string {
  const options = new Set(conditions.flatMap((one) => one.match(/-[sipm]\b/) ?? []));
  const kept =
    options.size === conditions.filter(Boolean).length
      ? conditions.filter(Boolean)
      : conditions.slice(0, 1).filter(Boolean);
  const isLoop = chain === "TWO" || (chain === "ONE" && verdict.endsWith("ONE"));
  const end = isLoop && /ONE|TWO/.test(verdict) ? "-j DROP" : verdict;
  return [place, chain, ...kept, end].join(" ");
}

/** The same rules where the set is there and empty, and the name is of a host that sends nothing: what the model can walk. */
function emptied(line: string): string[] {
  if (/(?<!! )(-m set --match-set|-s no\.where)/.test(line)) return [];
  return [line.replace(/-m set ! --match-set gone src ?|! -s no\.where ?/g, "").replace(",no.where", "")];
}

test("what is left lets nobody in whom all the rules with empty sets would not", () => {
  let closed = 0;
  const property = fc.property(
    fc.array(rule, { maxLength: 12 }),
    fc.constantFrom("DROP", "ACCEPT"),
    (rules, policy) => {
      const head = HEAD.map((line) => line.replace("INPUT DROP", `INPUT ${policy}`));
      const text = [...head, ...rules.map(lineOf), "COMMIT"];
      const { lines } = inOrder({ lines: text, origins: text.map(() => undefined) });
      const salvaged = lines.flatMap((line) => {
        const stead = line.startsWith("-") ? withoutMissing(line, MISSING, lines) : undefined;
        return stead === undefined ? [line] : (stead.line ?? []);
      });
      const full = lines.flatMap((line) => (line.startsWith("-") ? emptied(line) : [line]));
      const [left, all] = [salvaged, full].map((some) => ruleWith(readLive(`${some.join("\n")}\n`), () => true));
      for (const source of SOURCES) {
        for (const port of PORTS) {
          const packet: Packet = {
            family: "ipv4",
            from: "eth0",
            to: undefined,
            source,
            destination: "192.0.2.9",
            protocol: "tcp",
            port: Number(port),
            translated: false,
            original: { destination: "192.0.2.1", port: 8080 },
          };
          const [now, before] = [left, all].map((one) => one && walk(one, "filter", "INPUT", packet).verdict?.target);
          if (now === "ACCEPT")
            expect(before, `${source} ${port}\n${text.join("\n")}\n→\n${salvaged.join("\n")}`).toBe("ACCEPT");
          else if (before === "ACCEPT") closed++;
        }
      }
    },
  );
  fc.assert(property, { seed: 14, numRuns: 1000 });
  expect(closed).toBeGreaterThan(30);
});

test("insertions are where they end up, each with its origin", () => {
  const text = [
    "*filter",
    ":x - [0:0]",
    "-A INPUT -i a -j DROP",
    "[1:2] -I INPUT -i b -j x",
    "-N y",
    "-A x -j y",
    "-I INPUT 3 -i c -j ACCEPT",
    "-I INPUT 2 -i d -j ACCEPT",
    "COMMIT",
  ];
  const origins = text.map((_, line) => ({ path: "f", line }));
  const ordered = inOrder({ lines: text, origins });
  expect(ordered.lines).toEqual([
    "*filter",
    ":x - [0:0]",
    "-N y",
    "-A INPUT -i b -j x",
    "-A INPUT -i d -j ACCEPT",
    "-A INPUT -i a -j DROP",
    "-A INPUT -i c -j ACCEPT",
    "-A x -j y",
    "COMMIT",
  ]);
  expect(ordered.origins.map((origin) => origin?.line)).toEqual([0, 1, 4, 3, 7, 2, 6, 5, 8]);
  for (const odd of ["-D INPUT 1", "-I INPUT 9 -j DROP", "-F"]) {
    const table = [...text.slice(0, -1), odd, "COMMIT"];
    expect(inOrder({ lines: table, origins: [] }).lines).toEqual(table);
  }
});
