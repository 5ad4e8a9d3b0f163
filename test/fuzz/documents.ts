// Surfaces of the daemon: documents of containers and networks, and events. Real documents with hostile values in some places pass
// all steps up to the fragments' text.

import { readdirSync, readFileSync } from "node:fs";
import fc from "fast-check";
import { expect } from "vitest";
import { readEvent } from "../../src/commands/watch.ts";
import { Failure } from "../../src/model/errors.ts";
import { type Given, outcomeOf } from "../rules/pipeline.ts";
import { mutated } from "./hostile.ts";
import { type Surface, surface } from "./surface.ts";

const CASES = new URL("../cases/", import.meta.url);
const cases: Given[] = readdirSync(CASES)
  .filter((name) => name.endsWith(".json"))
  .map((name) => readFileSync(new URL(name, CASES), "utf8"))
  // A range of ports has thousands of places that are all alike.
  .filter((text) => text.length < 20_000)
  .map((text) => JSON.parse(text));

/** A case of which only what the daemon says is hostile. */
const hostileCase = fc
  .constantFrom(...cases)
  .chain((given) =>
    mutated([{ inspect: given.inspect, networks: given.networks }]).map((said) => ({ ...given, ...(said as object) })),
  );

/** A rule as we write one, from its first to its last letter: nothing that is read elsewhere can hide in it. */
const LIST = String.raw`ALLOW-[\da-f]{20}`;
const OF_CONNECTION = String.raw`--ctstate DNAT (?:--ctorigdst [\d.:a-f]+ )?--ctorigdstport \d+(?::\d+)? --ctdir (?:ORIGINAL|REPLY)`;
const RULE = new RegExp(
  String.raw`^-A (?:[A-Z_]+|${LIST})(?: (?:! )?-[sd] [\d.:a-f]+/\d+| (?:! )?-[io] [\w.:@][\w.:@-]*| -p (\w+)(?: -m \1 --[sd]port \d+(?::\d+)?)?)*` +
    `(?: -m conntrack (?:! --ctstate DNAT --ctdir (?:ORIGINAL|REPLY)|${OF_CONNECTION}))?` +
    String.raw` -m comment --comment "docker_iptables: [a-zA-Z0-9][\w.-]*" -j` +
    String.raw` (?:ACCEPT|DROP|RETURN|${LIST}|MASQUERADE|DNAT --to-destination [\d.:a-f\[\]]+(?:-\d+/\d+)?)$`,
);
/** The options are arguments, which are not hostile here. */
const LINE = new RegExp(
  String.raw`^(?:\*(?:raw|mangle|nat|filter)|COMMIT|:${LIST} - \[0:0\]|# docker_iptables: [a-zA-Z0-9][\w.-]* \(generated: do not edit\)` +
    String.raw`|# options: \{("\w+":("[\w.-]+"|true|false|\{("[\w./*-]+":\[("[\w.:/]+",?)*\],?)+\}),?)+\}|)$`,
);

const CODES = [
  "client_answer_invalid",
  "network_unknown",
  "bridge_missing",
  "container_not_running",
  "arguments_invalid",
];

function holdsFor(given: Given): void {
  try {
    const { fragments, rules } = outcomeOf(given);
    for (const line of Object.values(fragments).flatMap((text) => (text ?? "").split("\n")))
      expect(LINE.test(line) || RULE.test(line), line).toBe(true);
    const words = Object.values(rules).flatMap((tables) => Object.values(tables).flat());
    // In a list's own chain an interface is what its label says: a word, by the form of the rule.
    // So it is in the accept of an interface that a network trusts.
    const isAnyones = (rule: readonly string[]) =>
      new RegExp(`^${LIST}$`).test(rule[1] ?? "") || (rule[1] === "PREROUTING" && rule.at(-1) === "ACCEPT");
    for (const rule of words.filter((one) => !isAnyones(one))) {
      const interfaces = rule.filter((_, at) => /^-[io]$/.test(rule[at - 1] ?? ""));
      for (const name of interfaces) expect([...given.interfaces.names, "lo"]).toContain(name);
    }
  } catch (error) {
    expect(error).toBeInstanceOf(Failure);
    expect(CODES).toContain((error as Failure).code);
    expect((error as Failure).message.length).toBeLessThan(5000);
  }
}

const EVENTS = [
  { Type: "container", Action: "start", Actor: { ID: "a1", Attributes: { name: "web" } }, time: 1 },
  { Type: "network", Action: "create", Actor: { Attributes: { name: "front" } } },
  { Name: "web", Status: "start", Type: "container", Attributes: { name: "web" } },
];

export const DOCUMENTS: readonly Surface[] = [
  surface(
    "containers and networks",
    2000,
    fc.property(hostileCase, (given) => {
      fc.pre(Array.isArray(given.inspect) && Array.isArray(given.networks));
      holdsFor(given);
    }),
  ),
  surface(
    "events",
    2000,
    fc.property(
      fc.oneof(
        mutated(EVENTS).map((one) => JSON.stringify(one) ?? ""),
        fc.string({ unit: "binary" }),
      ),
      (line) => {
        const event = readEvent(line);
        for (const word of Object.values(event ?? {})) expect(typeof word === "string" && word.length <= 65).toBe(true);
      },
    ),
  ),
];
