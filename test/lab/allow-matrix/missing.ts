/*
 * The matrix sees when a single rule is missing: rules to take out of the kernel, and what is open without each of them.
 */

import type { Host } from "../host.ts";
import { portAt } from "./expected.ts";
import type { Family } from "./place.ts";
import type { Probe } from "./probes.ts";
import type { Regime } from "./regimes.ts";

/** Under which every kind of rule is the only one that closes something. */
export const UNGUARDED: Regime = { ipv6: false, guards: false, bridgeNf: true, base: "ours", reload: "restore" };

interface Missing {
  words: string;
  family: Family;
  /** The rule, among those of web in the mangle table. */
  find: (rules: readonly string[]) => string | undefined;
  /** Of the probes of its family that lists close. */
  opens: (probe: Probe) => boolean;
}

const isTo = (probe: Probe, port: number, protocol: string) =>
  "host" in probe.to && probe.port === port && probe.protocol === protocol;

const jump = (rules: readonly string[], port: number, protocol: string) =>
  rules.find((rule) => rule.includes(` -p ${protocol} `) && rule.includes(`--ctorigdstport ${port} `));

export const MISSING: readonly Missing[] = [
  {
    words: "the jump of what a DNAT sends to web, for one port",
    family: "ipv4",
    find: (rules) => jump(rules, 8080, "tcp"),
    opens: (probe) => isTo(probe, 8080, "tcp"),
  },
  {
    words: "the DROP of one of web's lists, which several ports have",
    family: "ipv4",
    find: (rules) => {
      const chain = jump(rules, 8080, "udp")?.split(" ").at(-1);
      return rules.find((rule) => rule.startsWith(`-A ${chain} `) && rule.endsWith(" DROP"));
    },
    opens: (probe) => portAt(probe)?.container === "web" && portAt(probe)?.from?.join() === "eth1",
  },
  {
    words: "the jump of what comes to docker-proxy",
    family: "ipv6",
    find: (rules) => rules.find((rule) => rule.startsWith("-A INPUT ") && rule.includes("--dport 8087 ")),
    opens: (probe) => isTo(probe, 8087, "tcp"),
  },
  {
    words: "the filter of web's own ports",
    family: "ipv4",
    find: (rules) => rules.find((rule) => rule.includes("! --ctstate DNAT ") && rule.includes("--dport 80:81 ")),
    opens: ({ to, port, protocol }) =>
      "container" in to && to.container === "web" && [80, 81].includes(port) && protocol === "tcp",
  },
];

/** Takes the rule out while `works` runs. */
export async function without(host: Host, { words, family, find }: Missing, works: () => Promise<void>): Promise<void> {
  const command = family === "ipv4" ? "iptables" : "ip6tables";
  const { stdout } = await host.run(command, ["-t", "mangle", "-S"]);
  const rule = find(stdout.split("\n").filter((line) => line.includes('"docker_iptables: web"')));
  if (rule === undefined) throw new Error(`${words} is not there:\n${stdout}`);
  await host.run("sh", ["-c", `${command} -t mangle ${rule.replace(/^-A/, "-D")}`]);
  await works();
  await host.run("sh", ["-c", `${command} -t mangle ${rule}`]);
}
