// All containers of a host at once.

import type { Lab } from "../lab/lab.ts";
import { compare, type Figure, ours } from "./benchmarks.ts";
import { measure } from "./measure.ts";
import { BARE, startPlace } from "./place.ts";

/** 11: so many real containers, of which none has changed, and all of which have no rules yet. */
export async function syncAll(lab: Lab, count: number): Promise<Figure[]> {
  const { host, native } = await startPlace(lab, "iptables", "sync");
  for (let at = 1; at < count; at++) await host.docker.run(`c${at}`, { publish: [`${20_000 + 2 * at}:80`] });
  const given = { all: true, reload: "restore" };
  const all = await ours(host, native, given, { before: BARE, expect: '"changed":true', rounds: 5 });
  const rules = "/root/sync.rules";
  await host.run("sh", ["-c", `${BARE}; docker_iptables < ${all.stdin} && iptables-save > ${rules}`]);
  const floor = "docker inspect $(docker ps --quiet) > /dev/null; iptables-save > /dev/null";
  const none = await ours(host, native, given, { expect: '"changed":false', rounds: 15 });
  const idle = await measure(host, [{ name: "floor", argv: ["sh", "-c", floor], rounds: 15 }, none]);
  const restore = { name: "iptables-restore", argv: ["iptables-restore"], stdin: rules, before: BARE, rounds: 5 };
  const busy = await measure(host, [restore, all]);
  return [
    compare(`\`sync\` of ${count} containers, nothing to do, native`, idle, ["native", "floor"], { most: 1.5 }),
    compare(`\`sync\` of ${count} containers, all without rules, one load, native`, busy, [
      "native",
      "iptables-restore",
    ]),
  ];
}
