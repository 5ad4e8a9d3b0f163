// Surfaces of fragments and of iptables-save: any text may be in a file of the directories or in a command's output. Reading it
// never throws, and a text without problems keeps all its rules.

import fc from "fast-check";
import { expect } from "vitest";
import { assemble, textOf } from "../../src/iptables/assemble.ts";
import { managedHeader, readFragment } from "../../src/iptables/fragment-text.ts";
import { compareLive, hasDockersRules, readLive, withoutCounters } from "../../src/iptables/live.ts";
import { type Packet, ruleWith, walk } from "../../src/iptables/packet.ts";
import { goalOf, patchText } from "../../src/iptables/patch.ts";
import { readClaims } from "../../src/iptables/read.ts";
import { keyOf, readComment, readWords, spell } from "../../src/iptables/rule.ts";
import { readTables } from "../../src/iptables/table-text.ts";
import { adopt, listUndeclared, undeclaredOf } from "../../src/iptables/undeclared.ts";
import { ClaimIndex, claimantIn } from "../../src/rules/claim-index.ts";
import { text as hostile } from "./hostile.ts";
import { type Surface, surface } from "./surface.ts";

const PIECES = [
  ...[
    "*filter",
    "*nat",
    "*",
    "COMMIT",
    ":FORWARD DROP [0:0]",
    ":X - [0:0]",
    ":",
    "-A",
    "-N",
    "-I",
    "-P",
    "FORWARD",
    "X",
    "#",
  ],
  ...[
    "-m comment --comment",
    "docker_iptables: web",
    '"',
    "\\",
    "!",
    "-d",
    "1.2.3.4",
    "-p tcp --dport 80:90",
    "[1:2] ",
  ],
  ...["-j DNAT --to-destination 1.2.3.4:80", "-g X", "-j RETURN", "-i eth0", "-s ::1/0", "\n", "\n", "\n", "\n"],
  ...["\r", "\t", " ", " ", "\0", "\u2028", "é", "\ud800", "__proto__", "constructor", "*toString", "*__proto__"],
];
export const garbage = fc.oneof(
  fc
    .array(fc.oneof({ weight: 6, arbitrary: fc.constantFrom(...PIECES) }, { weight: 1, arbitrary: hostile }), {
      maxLength: 60,
    })
    .map((parts) => parts.join("")),
  fc.string({ unit: "binary", maxLength: 200 }),
);

const PACKET: Packet = {
  ...{ family: "ipv4", from: "eth0", to: undefined, source: "192.0.2.1", destination: "1.2.3.4", protocol: "tcp" },
  ...{ port: 80, translated: false, original: { destination: "192.0.2.1", port: 8080 } },
};

/** Everything that reads a text, each with the same one. */
export function readAll(text: string): void {
  readTables(text);
  withoutCounters(text);
  const fragment = readFragment(text);
  const live = readLive(text);
  hasDockersRules(live);
  compareLive("web", fragment, fragment, live);
  compareLive("web", new Map(), fragment, live);
  assemble([{ path: "/d/1", text }], ["filter", text.slice(0, 20)], live);
  patchText(goalOf([{ text }, { text: `${managedHeader("web")}\n${text}` }], [fragment], live), live);
  const undeclared = undeclaredOf(live, [{ text: "" }], []);
  listUndeclared(undeclared);
  adopt(undeclared);
  const register = new ClaimIndex([claimantIn("ipv4", "web", readClaims(fragment))]);
  register.sharing(claimantIn("ipv4", "other", readClaims(fragment)));
  register.mayShare(text, "ipv4");
  walk(
    ruleWith(live, () => false),
    "filter",
    "FORWARD",
    PACKET,
  );
  const words = readWords(text);
  keyOf(words);
  readComment(words);
}

export const RULES: readonly Surface[] = [
  surface(
    "fragments and the kernel's rules",
    2000,
    fc.property(garbage, (text) => {
      readAll(text);
    }),
  ),
  surface(
    "fragments put together",
    1000,
    fc.property(garbage, (text) => {
      const { sections, problems } = readTables(text);
      fc.pre(problems.length === 0);
      const rules = sections
        .flatMap(({ lines }) => lines.map((line) => line.text))
        .filter((line) => !/^-N|^--n/.test(line));
      const assembled = textOf(assemble([{ path: "/d/1", text }], [], readLive("")));
      const kept = readTables(assembled).sections.flatMap(({ lines }) => lines.map((line) => line.text));
      expect([...kept].sort()).toEqual([...rules].sort());
    }),
  ),
  surface(
    "a rule's words, spelled and read again",
    2000,
    fc.property(
      fc.array(
        hostile.filter((word) => word !== "" && !/[\n\r\0]/.test(word)),
        { minLength: 1 },
      ),
      (rule) => {
        expect(readWords(spell(rule))).toEqual(rule);
      },
    ),
  ),
];
